"""Cross-fitting: predictions for galaxies that the network was not trained on, to calibrate and choose thresholds.

Either the validation galaxies are held out, or all galaxies are in turn: they are divided into folds, and for each fold
the recipe is trained once more on the others. The network in the bundle is then trained on all of them, and still
each galaxy has a prediction by a network that was not trained on it (Wolpert 1992, Neural Networks 5, 241).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TRAIN, VALIDATION, Cutouts
from training.ensemble import fit_ensemble
from training.fit import Fitted
from training.ood import learn_feature_groups
from training.predict import Model
from training.settings import Settings
from training.splits import UNUSED, group_by_galaxy, usable_rows, with_labels

FOLD_SEED = 0


@dataclass(frozen=True)
class HeldOut:
    """Predictions for n galaxies by networks that were not trained on them."""

    z_spec: FloatArray  # (n,)
    pdfs: FloatArray  # (n, n_bins), not recalibrated
    ood_scores: FloatArray  # (n,)


def fit_and_predict_held_out(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, settings: Settings, run: Path, *, resume: bool
) -> tuple[Fitted, Model, HeldOut]:
    """Train the network, and predict galaxies that it or a network like it was not trained on.

    Returns the network, the same as a `Model` with the feature groups of its training galaxies, and the predictions for
    the validation galaxies. With `settings.folds`, the validation galaxies are training galaxies too, the networks of
    the folds are trained in `run/fold-0` and so on, and the predictions are for all but the test galaxies.
    """
    if not settings.folds:
        fitted = fit_ensemble(cutouts, spec, grid, settings, run, resume=resume)
        model = _learn_model(fitted, cutouts, spec, grid)
        return fitted, model, _predict(model, cutouts, usable_rows(cutouts, grid, VALIDATION))
    merged = merge_validation(cutouts)
    fitted = fit_ensemble(merged, spec, grid, settings, run, resume=resume)
    model = _learn_model(fitted, merged, spec, grid)
    parts = []
    for number, (others, left_out) in enumerate(folds(merged, grid, settings.folds)):
        fold = fit_ensemble(others, spec, grid, settings, run / f"fold-{number}", resume=resume)
        parts.append(_predict(_learn_model(fold, others, spec, grid), others, left_out))
    fields = zip(*((part.z_spec, part.pdfs, part.ood_scores) for part in parts), strict=True)
    return fitted, model, HeldOut(*map(np.concatenate, fields))


def merge_validation(cutouts: Cutouts) -> Cutouts:
    """Return the cutouts with the validation galaxies among the training galaxies."""
    split = cutouts.column("split")
    return with_labels(cutouts, np.where(split == VALIDATION, TRAIN, split))


def folds(cutouts: Cutouts, grid: RedshiftGrid, n_folds: int) -> Iterator[tuple[Cutouts, IntArray]]:
    """Divide the training galaxies into folds at random, each galaxy with all its cutouts.

    Parameters
    ----------
    cutouts : Cutouts
        With z_spec and split.
    grid : RedshiftGrid
        Galaxies off it belong to no fold.
    n_folds : int
        At least 2; `InvalidDataset` is raised if there are fewer galaxies.

    Yields
    ------
    others : Cutouts
        Those of the fold are in no split.
    left_out : (m,) int
        The first row of each galaxy of the fold, in increasing order.
    """
    train = usable_rows(cutouts, grid, TRAIN)
    first, galaxy = group_by_galaxy(cutouts, train)
    if len(first) < n_folds:
        raise InvalidDataset(f"expected at least {n_folds} training galaxies for {n_folds} folds, got {len(first)}")
    for members in np.array_split(np.random.default_rng(FOLD_SEED).permutation(len(first)), n_folds):
        split = np.array(cutouts.column("split"))
        split[train[np.isin(galaxy, members)]] = UNUSED
        yield with_labels(cutouts, split), np.sort(first[members])


def _learn_model(fitted: Fitted, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid) -> Model:
    """Add to a network the feature groups of its training galaxies."""
    model = Model(fitted.network, spec, grid, fitted.ebv_assumed)
    groups = learn_feature_groups(model, cutouts, usable_rows(cutouts, grid, TRAIN))
    return replace(model, feature_groups=groups)


def _predict(model: Model, cutouts: Cutouts, rows: IntArray) -> HeldOut:
    found = model.predict(cutouts, rows)
    return HeldOut(cutouts.column("z_spec")[rows], found.raw_pdfs, found.ood_scores)
