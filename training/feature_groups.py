"""Learn the feature groups of the training images, for the `ood_score`."""

import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.io.cutouts import Cutouts
from photoz.model.card import OodRecord
from photoz.ood import FEATURES, FeatureGroup, FeatureGroups, Features, compress, score
from training.splits import group_by_galaxy
from training.trained_model import TrainedModel

# Fraction of ordinary cutouts that may be flagged: below the documented 0.01, to allow for chance. With half of it, a
# twentieth of the cutouts with r and i swapped were not flagged.
FALSE_ALARMS = 0.0075

# Minimum number of training galaxies for each direction of a covariance.
GALAXIES_PER_DIRECTION = 20

# Maximum number of training galaxies, chosen at random: more do not change the result.
MAX_GALAXIES = 20_000

# Weight of the covariance of a model that is adapted to another survey, in galaxies of that survey.
GALAXIES_OF_PARENT = 200

# Minimum variance of a direction, in units of the mean variance: smaller ones are rounding errors.
MIN_VARIANCE = 1e-3


def learn_feature_groups(model: TrainedModel, cutouts: Cutouts, rows: IntArray) -> dict[str, FeatureGroup]:
    """Fit the feature groups of a model to the first cutout of each galaxy of its training rows (n,)."""
    first, _ = group_by_galaxy(cutouts, rows)
    chosen = np.sort(np.random.default_rng(0).permutation(first)[:MAX_GALAXIES])
    return fit_feature_groups(model.features(cutouts, chosen))


def fit_feature_groups(train: Features) -> dict[str, FeatureGroup]:
    """Fit all feature groups to the features of the training galaxies from `photoz.ood.extract_features`."""
    return {name: _fit_group(values, FALSE_ALARMS / len(train)) for name, values in train.items()}


def adapt_feature_groups(groups: FeatureGroups, features: Features) -> dict[str, FeatureGroup]:
    """Move feature groups to the galaxies of another survey, few of which are known.

    The centre is that of the features, from `photoz.ood.extract_features`. The covariance is the mean of theirs and of
    that of the groups, which counts as much as `GALAXIES_OF_PARENT` galaxies.
    """
    return {name: _adapt_group(group, features[name], FALSE_ALARMS / len(groups)) for name, group in groups.items()}


def choose_threshold(feature_groups: FeatureGroups, held_out: FloatArray) -> OodRecord:
    """Choose the threshold that a fraction `FALSE_ALARMS` of the scores (n,) of held-out galaxies exceed."""
    threshold = float(np.quantile(held_out, 1.0 - FALSE_ALARMS))
    n_features = len(feature_groups[FEATURES].mean) if FEATURES in feature_groups else 0
    return OodRecord(threshold=threshold, false_alarms=float(np.mean(held_out > threshold)), n_features=n_features)


def _fit_group(values: FloatArray, exceeded_by: float) -> FeatureGroup:
    mean, std = values.mean(axis=0), values.std(axis=0)
    std = np.where(std > 0.0, std, 1.0)
    compressed = compress((values - mean) / std)
    centre = compressed.mean(axis=0)
    whitening = _whitening(compressed - centre)
    distances = score({"": FeatureGroup(mean, std, centre, whitening, 1.0)}, {"": values})
    scale = float(np.quantile(distances, 1.0 - exceeded_by))
    return FeatureGroup(mean, std, centre, whitening, scale or 1.0)


def _adapt_group(group: FeatureGroup, values: FloatArray, exceeded_by: float) -> FeatureGroup:
    compressed = compress((values - group.mean) / group.std)
    centre = compressed.mean(axis=0)
    offsets, n = compressed - centre, len(values)
    old = np.linalg.pinv(group.whitening @ group.whitening.T, hermitian=True)
    covariance = (offsets.T @ offsets + GALAXIES_OF_PARENT * old) / (n + GALAXIES_OF_PARENT)
    variances, axes = np.linalg.eigh(covariance)
    floor = max(MIN_VARIANCE * float(variances.mean()), 1e-12)
    whitening = np.asarray(axes / np.sqrt(np.maximum(variances, floor)))
    distances = score({"": FeatureGroup(group.mean, group.std, centre, whitening, 1.0)}, {"": values})
    return FeatureGroup(
        group.mean, group.std, centre, whitening, float(np.quantile(distances, 1.0 - exceeded_by)) or 1.0
    )


def _whitening(offsets: FloatArray) -> FloatArray:
    """Return the principal axes, divided by their standard deviations, (p, k); k is limited by the galaxies."""
    variances, axes = _principal_axes(offsets)
    n_axes = min(len(variances), max(1, len(offsets) // GALAXIES_PER_DIRECTION))
    variances, axes = variances[:n_axes], axes[:, :n_axes]
    floor = max(MIN_VARIANCE * float(variances.mean()), 1e-12)
    return np.asarray(axes / np.sqrt(np.maximum(variances, floor)))


def _principal_axes(offsets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the variances in decreasing order and their axes (p, k), by the faster method for the shape."""
    n, p = offsets.shape
    if n < p:
        _, singular, transposed = np.linalg.svd(offsets / np.sqrt(n), full_matrices=False)
        return singular**2, transposed.T
    variances, axes = np.linalg.eigh(offsets.T @ offsets / n)
    return variances[::-1], axes[:, ::-1]
