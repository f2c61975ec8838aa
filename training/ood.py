"""Learn what the training images look like, so that the service can tell others from them."""

import keras
import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.model.card import OodRecord
from photoz.ood import FEATURES, FeatureGroup, FeatureGroups, Features, compress
from training.predict import predict_views

# Fraction of clean cutouts that may be flagged: below the wanted one in a hundred, to leave room for chance.
# With half of it, a twentieth of the swaps of r and i went unseen.
FALSE_ALARMS = 0.0075

# Training galaxies behind each direction of a part's covariance, at least: it is not to be trusted with fewer.
GALAXIES_PER_DIRECTION = 20

# More training galaxies tell nothing new; a chance choice of so many is looked at.
MOST_GALAXIES = 20_000

# Directions with less than this part of the mean variance count as if they had so much: they are rounding errors.
LEAST_VARIANCE = 1e-3


def learn_parts(
    model: keras.Model, cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float
) -> dict[str, FeatureGroup]:
    """Learn what the training galaxies of a network look like.

    Parameters
    ----------
    model : keras.Model
        Its layer "features" is one of the parts, if it has such a layer.
    cutouts : Cutouts
        Open.
    rows : (n,) int
        Those that it was trained on.
    spec : ImageSpec
        What the images are.
    ebv_assumed : float
        What stands in for an unknown E(B-V).

    Returns
    -------
    dict of str to FeatureGroup
        For `photoz.ood.score` and `save`.
    """
    some = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_GALAXIES])
    return fit_parts(predict_views(model, cutouts, some, spec, ebv_assumed))


def fit_parts(train: Features) -> dict[str, FeatureGroup]:
    """Fit all parts to what `photoz.ood.extract_features` saw of the training galaxies."""
    return {name: _fit_part(values, FALSE_ALARMS / len(train)) for name, values in train.items()}


def choose_threshold(feature_groups: FeatureGroups, held_out: FloatArray) -> OodRecord:
    """Choose the score above which an image is flagged.

    Parameters
    ----------
    feature_groups : dict of str to FeatureGroup
        What the training galaxies look like.
    held_out : (n,) float
        Scores of galaxies that were not trained on.

    Returns
    -------
    OodRecord
        `FALSE_ALARMS` of those lie above its threshold.
    """
    threshold = float(np.quantile(held_out, 1.0 - FALSE_ALARMS))
    n_features = len(feature_groups[FEATURES].mean) if FEATURES in feature_groups else 0
    return OodRecord(threshold=threshold, false_alarms=float(np.mean(held_out > threshold)), n_features=n_features)


def _fit_part(values: FloatArray, exceeded_by: float) -> FeatureGroup:
    mean, std = values.mean(axis=0), values.std(axis=0)
    std = np.where(std > 0.0, std, 1.0)
    compressed = compress((values - mean) / std)
    centre = compressed.mean(axis=0)
    whitening = _whitening(compressed - centre)
    distances = FeatureGroup(mean, std, centre, whitening, 1.0).distance(values)
    scale = float(np.quantile(distances, 1.0 - exceeded_by))
    return FeatureGroup(mean, std, centre, whitening, scale or 1.0)


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
