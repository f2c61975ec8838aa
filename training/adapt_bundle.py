"""The pipeline of `adapt`: check the data, cross-fit, choose, and write the bundle and the report."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import properscoring

from photoz import pdf
from photoz.errors import InvalidDataset
from photoz.flags import Flag
from photoz.grid import IntArray
from photoz.io.cutouts import TEST, TRAIN, Cutouts, Reading
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts
from photoz.metrics import N_RESAMPLES, GalaxyScores, Score, bootstrap, crps, galaxy_scores, summarise
from photoz.model.bundle import ModelBundle, check_target
from photoz.model.card import AdaptationRecord, CalibrationRecord, Card, OodRecord, TestRecord
from training import provenance
from training.adapt import (
    AS_IT_IS,
    FROM_NOTHING,
    N_FOLDS,
    Adaptation,
    CrossFitted,
    adapt_network,
    adapt_statistics,
    choose_step,
    cross_fit,
    join,
)
from training.calibration_fit import fit_calibration, fit_parameters
from training.cross_fitting import assign_folds
from training.evaluation import MODEL, Evaluation, table, write_report
from training.feature_groups import choose_threshold
from training.pipeline import REPORT_FOLDER, write_bundle
from training.reference import reference_record
from training.splits import UNUSED, as_split, group_by_galaxy, numbers, with_labels
from training.trained_model import Predictions, TrainedModel

MIN_GALAXIES = 50

BEFORE = "before adapting"

# Largest CRPS of a model that can be adapted, in units of that of the distribution of the redshifts alone. Measured on
# rendered galaxies: 0.35; two bands swapped 0.55 to 3.2; pixels 3.6 times as bright 0.65; redshifts shuffled 1.7.
MAX_CRPS = 0.8

# Largest fraction of cutouts out of distribution. Measured on rendered galaxies: at most 2 % with zero points off by
# 15 %, other seeing and noise, or in real frames; at least 97 % with two bands swapped, or pixels 2.5 times as bright.
MAX_OOD = 0.5

METRICS = ("bias", "sigma_mad", "outlier_fraction", "crps", "pit_ks")


@dataclass(frozen=True)
class Adapted:
    """An adapted model, and what is known of it from galaxies that it was not adapted with."""

    model: TrainedModel
    step: str  # the last one that was taken
    gains: dict[str, float]  # by band, if any
    calibration: CalibrationRecord
    ood: OodRecord | None
    fitted: CrossFitted
    after: Predictions  # of the galaxies of `fitted`, with the models that were adapted without them
    before: Predictions  # of the same, with the model as it was

    @cached_property
    def galaxies(self) -> tuple[GalaxyScores, GalaxyScores]:
        """Scores of each galaxy after and before."""
        grid, z_spec = self.model.grid, self.fitted.z_spec
        return galaxy_scores(self.after.pdfs, z_spec, grid), galaxy_scores(self.before.pdfs, z_spec, grid)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Return the evaluation for the report."""
        pdfs, grid = self.after.pdfs, self.model.grid
        scores = dict(zip((MODEL, BEFORE), map(summarise, self.galaxies), strict=True))
        if FROM_NOTHING in self.fitted.pdfs:
            scores[FROM_NOTHING] = summarise(galaxy_scores(self.fitted.pdfs[FROM_NOTHING], self.fitted.z_spec, grid))
        gaussian = properscoring.crps_gaussian(self.fitted.z_spec, pdf.mean(pdfs, grid), pdf.std(pdfs, grid))
        return Evaluation(
            pdfs, self.fitted.rows, scores, float(gaussian.mean()), self.after.flags, self.after.ood_scores
        )


def adapt_bundle(
    parent: ModelBundle,
    data: Path,
    path: Path,
    run: Path,
    adaptation: Adaptation,
    *,
    figures: bool = True,
    only_f32: bool = False,
) -> tuple[ModelBundle, Reading]:
    """Adapt a model to a file of cutouts with z_spec, and write its bundle to `path` and its report to `run`.

    Returns the bundle and what was done with the file. Raises `InvalidDataset`, and writes no bundle, if the images
    are not those that the model takes, if fewer than `MIN_GALAXIES` can be used, or if units, bands or redshifts seem
    to be wrong.
    """
    check_target(path)
    with open_cutouts(data) as opened:
        cutouts, reading = _prepare(opened, parent)
        adapted = adapt_model(TrainedModel.load(parent), cutouts, adaptation, run)
        source, n, card = cutouts.provenance or data.name, len(adapted.fitted.rows), parent.card
        evaluation = adapted.evaluation
        bundle = write_bundle(
            path,
            adapted.model,
            cutouts,
            only_f32,
            architecture=card.architecture,
            training=card.training,
            adaptation=_record(adapted, card, data, source, adaptation.seed),
            test=TestRecord(data=f"cross-fitted: {source}", n_galaxies=n, scores=evaluation.scores),
            calibration=adapted.calibration,
            ood=adapted.ood,
            reference=reference_record(evaluation.pdfs, evaluation.ood_scores, card.grid, source),
            caveats=(*card.caveats, f"Adapted with {n} galaxies of {source}."),
        )
        write_report(evaluation, cutouts, bundle.card, run / REPORT_FOLDER, figures=figures)
    print(table(evaluation.scores))
    print(verdict(bundle.card.adaptation))
    return bundle, reading


def adapt_model(model: TrainedModel, cutouts: Cutouts, adaptation: Adaptation, run: Path) -> Adapted:
    """Adapt a model to the training galaxies; raises `InvalidDataset` if they do not fit its images."""
    rows, fold = assign_folds(cutouts, model.grid, N_FOLDS)
    before = _predict_before(model, cutouts, rows, fold)
    fitted = cross_fit(model, cutouts, rows, fold, adaptation, run)
    step = choose_step(fitted, model.grid)
    adapted = adapt_network(model, cutouts, adaptation, run, last=step)[step]
    gains = {} if adapted.gains is None else dict(zip(model.spec.bands, adapted.gains.tolist(), strict=True))
    held_out = fitted.predictions[step]
    calibration = fit_calibration(held_out.raw_pdfs, fitted.z_spec, model.grid, start=model.calibration)
    final = adapt_statistics(model, adapted.network, cutouts)
    ood = choose_threshold(final.feature_groups, held_out.ood_scores) if final.feature_groups else None
    threshold = math.inf if ood is None else ood.threshold
    final = replace(final, calibration=calibration.parameters, ood_threshold=threshold)
    after = _predict_after(model, cutouts, fitted, step, threshold)
    return Adapted(final, step, gains, calibration, ood, fitted, after, before)


def _record(adapted: Adapted, parent: Card, data: Path, source: str, seed: int) -> AdaptationRecord:
    return AdaptationRecord(
        parent=f"{parent.name} {parent.version}",
        parent_digest=parent.digest,
        data=source,
        data_sha256=provenance.file_sha256(data),
        n_galaxies=len(adapted.fitted.rows),
        network=adapted.step,
        gains=adapted.gains,
        seed=seed,
        improvements=improvements(*adapted.galaxies),
        git_commit=provenance.git_commit(),
    )


def _prepare(opened: Cutouts, parent: ModelBundle) -> tuple[Cutouts, Reading]:
    """Bring cutouts into the layout of the model; all but the test galaxies become training galaxies."""
    card = parent.card
    try:
        cutouts, reading = conform(opened, card.image)
    except InvalidDataset as error:
        raise InvalidDataset(
            f"{error}; {card.name} cannot be adapted to other bands or pixels: train a model on these images"
        ) from error
    split = as_split(cutouts.columns.get("split", np.full(len(cutouts), TRAIN)), "the column 'split'")
    on_grid = card.grid.contains(cutouts.column("z_spec"))
    cutouts = with_labels(cutouts, np.where(split == TEST, TEST, np.where(on_grid, TRAIN, UNUSED)))
    n = len(group_by_galaxy(cutouts, cutouts.rows(TRAIN))[0])
    print(f"{n} of {len(cutouts)} galaxies have a z_spec of 0 to {card.grid.z_max:g} and are not for testing")
    if n < MIN_GALAXIES:
        raise InvalidDataset(f"expected at least {MIN_GALAXIES} galaxies with z_spec, got {n}: use the model as it is")
    return cutouts, reading


def _predict_before(model: TrainedModel, cutouts: Cutouts, rows: IntArray, fold: IntArray) -> Predictions:
    """Predict all galaxies, in the order of `CrossFitted`; raises `InvalidDataset` if they do not fit."""
    parts = [group_by_galaxy(cutouts, rows[fold == number])[0] for number in range(fold.max() + 1)]
    before = join([model.predict(cutouts, part) for part in parts])
    share = float(np.mean(before.flags & Flag.OUT_OF_DISTRIBUTION > 0))
    if share > MAX_OOD:
        raise InvalidDataset(
            f"{share:.0%} of the cutouts are unlike those that the model was trained on, expected at most "
            f"{MAX_OOD:.0%}. Are the unit, the zero points (AB) and the order of the bands right? If they are, train a "
            "model on these cutouts"
        )
    z_spec = numbers(cutouts, "z_spec", np.concatenate(parts))
    counts = np.bincount(model.grid.bin_index(z_spec), minlength=model.grid.n_bins)
    alone = crps(np.tile(counts / counts.sum(), (len(z_spec), 1)), z_spec, model.grid).mean()
    measured = crps(before.pdfs, z_spec, model.grid).mean()
    if measured > MAX_CRPS * alone:
        raise InvalidDataset(
            f"the redshifts do not fit the images: the CRPS of the model is {measured:.4f}, that of one PDF for all "
            f"galaxies {alone:.4f}. Are the unit and the order of the bands right, and does each image have its z_spec?"
        )
    return before


def _predict_after(
    model: TrainedModel, cutouts: Cutouts, fitted: CrossFitted, step: str, threshold: float
) -> Predictions:
    """Predict each fold with the model that was adapted and recalibrated without it."""
    parts = []
    for number, one in enumerate(fitted.models[step]):
        inside = fitted.fold == number
        raw = fitted.predictions[step].raw_pdfs[~inside]
        parameters = fit_parameters(raw, fitted.z_spec[~inside], model.grid, model.calibration)
        served = replace(one, calibration=parameters, ood_threshold=threshold)
        parts.append(served.predict(cutouts, fitted.rows[inside]))
    return join(parts)


def improvements(after: GalaxyScores, before: GalaxyScores) -> dict[str, Score]:
    """Return by how much some metrics are closer to 0 after adapting, with the bootstrap error of the difference."""
    pairs = zip(*(bootstrap(scores, N_RESAMPLES, seed=0).items() for scores in (after, before)), strict=True)
    improved = {}
    for (name, (new, news)), (_, (old, olds)) in pairs:
        if name in METRICS:
            improved[name] = Score(abs(old) - abs(new), float(np.std(np.abs(olds) - np.abs(news))))
    return improved


def verdict(record: AdaptationRecord | None) -> str:
    """Say what was adapted, and what it gained."""
    assert record is not None
    gained = ", ".join(f"{name} {score.value:+.4f} ± {score.error:.4f}" for name, score in record.improvements.items())
    if record.network == AS_IT_IS:
        what = "the network stays as it is: no step was tried, or none gains more than its error; calibration adapted"
    else:
        gains = ", ".join(f"{band} {gain:.3f}" for band, gain in record.gains.items())
        what = f"adapted: {record.network}; gains of the bands {gains}"
    return f"{what}\nimprovement over {record.parent} (above 0 is better): {gained}"
