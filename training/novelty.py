"""Learn what the training images look like, so that the service can tell others from them."""

import keras
import numpy as np

from photoz.bundle import NoveltyRecord
from photoz.datasets import TRAIN, VALIDATION, Cutouts
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.novelty import FEATURES, Part, Views, compress, score
from training.predict import predict_views
from training.rows import usable_rows

# Part of the clean cutouts that may be flagged.
FALSE_ALARMS = 0.01

# Training galaxies behind each direction of a part's covariance, at least: it is not to be trusted with fewer.
GALAXIES_PER_DIRECTION = 20

# More training galaxies tell nothing new; a chance choice of so many is looked at.
MOST_GALAXIES = 20_000

# Directions with less than this part of the mean variance count as if they had so much: they are rounding errors.
LEAST_VARIANCE = 1e-3


def learn_novelty(
    model: keras.Model, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, ebv_assumed: float
) -> tuple[dict[str, Part], NoveltyRecord]:
    """Fit all parts on the training galaxies, and the threshold on the validation galaxies.

    Parameters
    ----------
    model : keras.Model
        Its layer "features" is one of the parts, if it has such a layer.
    cutouts : Cutouts
        Open, with z_spec and split.
    spec : ImageSpec
        What the images are.
    grid : RedshiftGrid
        The bins of the model.
    ebv_assumed : float
        What stands in for an unknown E(B-V).

    Returns
    -------
    novelty : dict of str to Part
        For `photoz.novelty.save`.
    record : NoveltyRecord
        For the card.
    """
    train, held_out = (_some(usable_rows(cutouts, grid, split)) for split in (TRAIN, VALIDATION))
    seen = (predict_views(model, cutouts, rows, spec, ebv_assumed) for rows in (train, held_out))
    return fit_novelty(*seen)


def _some(rows: IntArray) -> IntArray:
    return np.sort(np.random.default_rng(0).permutation(rows)[:MOST_GALAXIES])


def fit_novelty(train: Views, held_out: Views) -> tuple[dict[str, Part], NoveltyRecord]:
    """Fit parts and threshold on what `photoz.novelty.views` saw of two sets of galaxies."""
    novelty = {name: _fit_part(values, FALSE_ALARMS / len(train)) for name, values in train.items()}
    scores = score(novelty, held_out)
    threshold = float(np.quantile(scores, 1.0 - FALSE_ALARMS))
    n_features = train[FEATURES].shape[1] if FEATURES in train else 0
    return novelty, NoveltyRecord(
        threshold=threshold, false_alarms=float(np.mean(scores > threshold)), n_features=n_features
    )


def _fit_part(values: FloatArray, exceeded_by: float) -> Part:
    mean, std = values.mean(axis=0), values.std(axis=0)
    std = np.where(std > 0.0, std, 1.0)
    compressed = compress((values - mean) / std)
    centre = compressed.mean(axis=0)
    whitening = _whitening(compressed - centre)
    distances = Part(mean, std, centre, whitening, 1.0).distance(values)
    scale = float(np.quantile(distances, 1.0 - exceeded_by))
    return Part(mean, std, centre, whitening, scale or 1.0)


def _whitening(offsets: FloatArray) -> FloatArray:
    """Return the principal axes that the number of galaxies allows, each over its standard deviation; (p, k)."""
    variances, axes = _principal_axes(offsets)
    n_axes = min(len(variances), max(1, len(offsets) // GALAXIES_PER_DIRECTION))
    variances, axes = variances[:n_axes], axes[:, :n_axes]
    least = max(LEAST_VARIANCE * float(variances.mean()), 1e-12)
    return np.asarray(axes / np.sqrt(np.maximum(variances, least)))


def _principal_axes(offsets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return variances, the largest first, and their axes (p, k); the cheaper way for the shape at hand."""
    n, p = offsets.shape
    if n < p:
        _, singular, transposed = np.linalg.svd(offsets / np.sqrt(n), full_matrices=False)
        return singular**2, transposed.T
    variances, axes = np.linalg.eigh(offsets.T @ offsets / n)
    return variances[::-1], axes[:, ::-1]
