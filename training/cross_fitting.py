"""Cross-fitting: predictions for galaxies that the network was not trained on, to calibrate and choose thresholds.

Either the validation galaxies are held out, or all galaxies in turn: they are divided into folds, and for each fold the
recipe is trained once more on the other folds. The network in the bundle is then trained on all galaxies, and each
galaxy still has a prediction by a network that was not trained on it (Wolpert 1992, Neural Networks 5, 241).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TRAIN, VALIDATION, Cutouts
from training.ensemble import fit_ensemble
from training.feature_groups import learn_feature_groups
from training.fit import Fitted
from training.recipes import TrainingSettings
from training.splits import group_by_galaxy, numbers, usable_rows, with_labels, without
from training.trained_model import TrainedModel

FOLD_SEED = 0


@dataclass(frozen=True)
class HeldOut:
    """Predictions for n galaxies by networks that were not trained on them."""

    z_spec: FloatArray  # (n,)
    pdfs: FloatArray  # (n, n_bins), not recalibrated
    ood_scores: FloatArray  # (n,)


def fit_and_predict_held_out(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, settings: TrainingSettings, run: Path, *, resume: bool
) -> tuple[Fitted, TrainedModel, HeldOut]:
    """Train the network, and predict galaxies that it or a network like it was not trained on.

    Returns the network, the same as a `TrainedModel` with the feature groups of its training galaxies, and predictions
    for the validation galaxies. With `settings.folds`, the validation galaxies are training galaxies too, one more
    network is trained for each fold in `run/fold-0` and so on, and the predictions are for all but the test galaxies.
    """
    if not settings.folds:
        _, validation = (usable_rows(cutouts, grid, split) for split in (TRAIN, VALIDATION))  # raises before the fit
        fitted = fit_ensemble(cutouts, spec, grid, settings, run, resume=resume)
        model = _learn_model(fitted, cutouts, spec, grid)
        return fitted, model, _predict(model, cutouts, validation)
    merged = merge_validation(cutouts)
    train, fold_of = assign_folds(merged, grid, settings.folds)
    parts = []
    for number in range(settings.folds):
        left_out = train[fold_of == number]
        others = without(merged, left_out)
        fold = fit_ensemble(others, spec, grid, settings, run / f"fold-{number}", resume=resume)
        parts.append(_predict(_learn_model(fold, others, spec, grid), others, group_by_galaxy(merged, left_out)[0]))
    fields = zip(*((part.z_spec, part.pdfs, part.ood_scores) for part in parts), strict=True)
    fitted = fit_ensemble(merged, spec, grid, settings, run, resume=resume)
    return fitted, _learn_model(fitted, merged, spec, grid), HeldOut(*map(np.concatenate, fields))


def merge_validation(cutouts: Cutouts) -> Cutouts:
    """Return the cutouts with the validation galaxies as training galaxies."""
    split = cutouts.column("split")
    return with_labels(cutouts, np.where(split == VALIDATION, TRAIN, split))


def assign_folds(cutouts: Cutouts, grid: RedshiftGrid, n_folds: int) -> tuple[IntArray, IntArray]:
    """Divide the training galaxies on the grid into folds at random; all cutouts of a galaxy are in one fold.

    Returns the training rows, (n,) int in increasing order, and the fold of each, (n,) int from 0. Raises
    `InvalidDataset` if there are fewer galaxies than folds.
    """
    train = usable_rows(cutouts, grid, TRAIN)
    first, galaxy = group_by_galaxy(cutouts, train)
    if len(first) < n_folds:
        raise InvalidDataset(f"expected at least {n_folds} training galaxies for {n_folds} folds, got {len(first)}")
    fold_of_galaxy = np.empty(len(first), dtype=np.int64)
    parts = np.array_split(np.random.default_rng(FOLD_SEED).permutation(len(first)), n_folds)
    for number, members in enumerate(parts):
        fold_of_galaxy[members] = number
    return train, fold_of_galaxy[galaxy]


def _learn_model(fitted: Fitted, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid) -> TrainedModel:
    """Make a model of a network, with the feature groups of its training galaxies."""
    model = TrainedModel(fitted.network, spec, grid, fitted.ebv_default, z_range=fitted.z_range)
    groups = learn_feature_groups(model, cutouts, usable_rows(cutouts, grid, TRAIN))
    return replace(model, feature_groups=groups)


def _predict(model: TrainedModel, cutouts: Cutouts, rows: IntArray) -> HeldOut:
    predictions = model.predict(cutouts, rows)
    return HeldOut(numbers(cutouts, "z_spec", rows), predictions.raw_pdfs, predictions.ood_scores)
