"""What networks make of galaxies that they were not trained on: calibration and thresholds are learned from that.

Either the validation galaxies are held out, or **cross-fitting** holds out all galaxies in turn: they are dealt into
folds, and for each fold the whole recipe is trained once more on the others. The network that ships may then be
trained on all of them, and still every galaxy tells how the recipe does on galaxies that it has not seen (stacked
generalisation's way of making honest inputs: Wolpert 1992, Neural Networks 5, 241).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TRAIN, VALIDATION, Cutouts
from photoz.ood import FeatureGroups, score
from training.ensemble import fit_ensemble
from training.fit import Fitted
from training.ood import learn_parts
from training.predict import predict_pdfs, predict_views
from training.rows import UNUSED, galaxies, usable_rows
from training.settings import Settings

FOLD_SEED = 0


@dataclass(frozen=True)
class HeldOut:
    """Galaxies as seen by networks that were not trained on them.

    Parameters
    ----------
    z_spec : (n,) float
        Their redshifts.
    pdfs : (n, n_bins) float
        Not recalibrated.
    ood_scores : (n,) float
        How unlike the training galaxies each is.
    """

    z_spec: FloatArray
    pdfs: FloatArray
    ood_scores: FloatArray


def fit_and_hold_out(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, settings: Settings, run: Path, *, resume: bool
) -> tuple[Fitted, FeatureGroups, HeldOut]:
    """Train the network, and let it or its kind look at galaxies that it was not trained on.

    Parameters
    ----------
    cutouts, spec, grid, settings, run, resume
        As for `training.ensemble.fit_ensemble`. With `settings.folds`, the network is trained on the validation
        galaxies too, and those of each fold in `run/fold-0` and so on.

    Returns
    -------
    fitted : Fitted
        The network.
    feature_groups : dict of str to FeatureGroup
        What its training galaxies look like.
    held_out : HeldOut
        The validation galaxies, or with folds all but the test galaxies.
    """
    if not settings.folds:
        fitted = fit_ensemble(cutouts, spec, grid, settings, run, resume=resume)
        feature_groups, held_out = _look(fitted, cutouts, usable_rows(cutouts, grid, VALIDATION), spec, grid)
        return fitted, feature_groups, held_out
    everyone = all_known(cutouts)
    fitted = fit_ensemble(everyone, spec, grid, settings, run, resume=resume)
    feature_groups = learn_parts(fitted.model, everyone, usable_rows(everyone, grid, TRAIN), spec, fitted.ebv_assumed)
    seen = []
    for number, (others, left_out) in enumerate(folds(everyone, grid, settings.folds)):
        fold = fit_ensemble(others, spec, grid, settings, run / f"fold-{number}", resume=resume)
        seen.append(_look(fold, others, left_out, spec, grid)[1])
    return fitted, feature_groups, _join(seen)


def all_known(cutouts: Cutouts) -> Cutouts:
    """Return the cutouts with those of the validation galaxies among the ones to train on."""
    split = cutouts.column("split")
    return _with_labels(cutouts, np.where(split == VALIDATION, TRAIN, split))


def folds(cutouts: Cutouts, grid: RedshiftGrid, n_folds: int) -> Iterator[tuple[Cutouts, IntArray]]:
    """Deal the training galaxies into folds at random, each with all its cutouts.

    Parameters
    ----------
    cutouts : Cutouts
        With z_spec and split.
    grid : RedshiftGrid
        Galaxies off it belong to no fold.
    n_folds : int
        At least 2.

    Yields
    ------
    others : Cutouts
        Without those of the fold, which are in no split.
    left_out : (m,) int
        The first row of each galaxy of the fold, in increasing order.

    Raises
    ------
    InvalidDataset
        If there are fewer galaxies than folds.
    """
    train = usable_rows(cutouts, grid, TRAIN)
    first, galaxy = galaxies(cutouts, train)
    if len(first) < n_folds:
        raise InvalidDataset(f"expected at least {n_folds} galaxies to train on for as many folds, got {len(first)}")
    for dealt in np.array_split(np.random.default_rng(FOLD_SEED).permutation(len(first)), n_folds):
        split = np.array(cutouts.column("split"))
        split[train[np.isin(galaxy, dealt)]] = UNUSED
        yield _with_labels(cutouts, split), np.sort(first[dealt])


def _with_labels(cutouts: Cutouts, split: np.ndarray) -> Cutouts:
    return replace(cutouts, columns={**cutouts.columns, "split": split})


def _look(
    fitted: Fitted, cutouts: Cutouts, rows: IntArray, spec: ImageSpec, grid: RedshiftGrid
) -> tuple[FeatureGroups, HeldOut]:
    """Learn what the training galaxies of a network look like, and let it look at others."""
    model, ebv_assumed = fitted.model, fitted.ebv_assumed
    feature_groups = learn_parts(model, cutouts, usable_rows(cutouts, grid, TRAIN), spec, ebv_assumed)
    views = predict_views(model, cutouts, rows, spec, ebv_assumed)
    pdfs = predict_pdfs(model, cutouts, rows, spec, ebv_assumed)
    return feature_groups, HeldOut(cutouts.column("z_spec")[rows], pdfs, score(feature_groups, views))


def _join(seen: Sequence[HeldOut]) -> HeldOut:
    parts = zip(*((one.z_spec, one.pdfs, one.ood_scores) for one in seen), strict=True)
    return HeldOut(*(np.concatenate(part) for part in parts))
