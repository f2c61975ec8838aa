"""Out-of-distribution detection: how unlike the training images a cutout is, the `ood_score`.

Three groups of features are compared with the training galaxies by the Mahalanobis distance of Lee et al. 2018
(NeurIPS 31, 7167):

* **features**: activations of the network before its last layers. They detect swapped bands, empty sky, and anything
  else that would change the estimate;
* **noise**: the logarithm of each band's noise on the border. It detects other units, other exposures, and bands in the
  wrong order;
* **concentration**: the fraction of the light around the centre that falls into its core. It detects stars, which a
  network that sums fluxes knows by their colours only. A core clipped to a plateau, as by saturation, counts as more
  concentrated than any star: it changes the colours too little to be noticed otherwise.

The distance of a group is divided by one that a few in a thousand training galaxies exceed; the score is the largest.
So few training galaxies exceed 1; the exact threshold is in the model card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidBundle, PhotozError
from photoz.grid import FloatArray, IntArray
from photoz.images import border_noise, central_box
from photoz.io.npz import read_arrays

FEATURES = "features"

# Gaussian apertures of the concentration, sigma in units of the side: 2 and 6 pixels of 64.
CORE, WHOLE = 1 / 32, 3 / 32

# A plateau is more than this many pixels within a thousandth of the brightest one in the centre of a band. Noise
# separates unclipped pixels: none of 8,192 rendered training cutouts had more; cores clipped at 0.7 of their peak do.
PLATEAU_PIXELS = 4
PLATEAU_DEPTH = 1e-3

# Standardised values beyond about this count by their logarithm, because the tails of real features are heavy.
TAIL = 3.0

# Distance of features that are not finite.
FARTHEST = 1e6

_TINY = 1e-12

Features = Mapping[str, FloatArray]


@dataclass(frozen=True)
class FeatureGroup:
    """Distribution of one group of p features over the training galaxies."""

    mean: FloatArray  # (p,)
    std: FloatArray  # (p,)
    centre: FloatArray  # (p,), mean of the standardised features with compressed tails
    whitening: FloatArray  # (p, k); maps those, less the centre, to k uncorrelated values of variance 1
    scale: float  # distance that few training galaxies exceed

    def distance(self, values: FloatArray) -> FloatArray:
        """Return the distance of features (n, p) in units of the scale, (n,); `FARTHEST` if any is not finite."""
        usable = np.asarray(np.isfinite(values).all(axis=1))
        offset = compress((np.where(usable[:, np.newaxis], values, self.mean) - self.mean) / self.std) - self.centre
        squared = np.sum((offset @ self.whitening) ** 2, axis=1)
        return np.asarray(np.where(usable, np.sqrt(squared) / self.scale, FARTHEST))


FeatureGroups = Mapping[str, FeatureGroup]


def compress(standardised: FloatArray) -> FloatArray:
    """Compress the tails of standardised values: linear within `TAIL`, logarithmic beyond."""
    return np.asarray(TAIL * np.arcsinh(standardised / TAIL))


def extract_features(
    images: npt.NDArray[np.float32],
    features: npt.NDArray[np.floating[Any]] | None,
    noise: npt.NDArray[np.floating[Any]] | None = None,
) -> dict[str, FloatArray]:
    """Compute all groups of features.

    Parameters
    ----------
    images : (n, size, size, n_bands) float32
        Finite pixels.
    features : (n, n_features) float, or None
        Of the network, if it has any.
    noise : (n, n_bands) float, optional
        Result of `photoz.images.border_noise`, if it is known already.

    Returns
    -------
    dict of str to (n, p) float64
        Features by group.
    """
    noise = np.asarray(border_noise(images) if noise is None else noise, dtype=np.float64)
    found = {"noise": np.log(np.maximum(noise, _TINY)), "concentration": _concentration(images, noise)}
    return found if features is None else {FEATURES: np.asarray(features, dtype=np.float64), **found}


def _concentration(images: npt.NDArray[np.float32], noise: FloatArray) -> FloatArray:
    """Ratio of core to total light over all bands, in units of their noise; of a plateau its pixels; (n, 1)."""
    size = images.shape[1]
    pixels = images.reshape(len(images), size * size, -1)
    weights = np.stack([_aperture(size, sigma * size) for sigma in (CORE, WHOLE)]).astype(np.float32)
    significance = np.divide(1.0, noise, out=np.zeros_like(noise), where=noise > _TINY)
    with np.errstate(over="ignore", invalid="ignore"):  # a ratio that is not finite gets the distance FARTHEST
        sums = np.matmul(weights, pixels).astype(np.float64)  # (n, 2, n_bands)
        core, whole = np.maximum(np.einsum("nab,nb->an", sums, significance), _TINY)
        ratio = core / np.maximum(whole, core)
    plateau = _plateau_pixels(images)
    return np.where(plateau > PLATEAU_PIXELS, plateau, ratio)[:, np.newaxis]


def _plateau_pixels(images: npt.NDArray[np.float32]) -> IntArray:
    """Number of central pixels about as bright as the brightest, in the band with most of them; (n,)."""
    # numpy is five times as fast along the last axis.
    by_band = np.ascontiguousarray(central_box(images).transpose(0, 2, 1))
    brightest = by_band.max(axis=-1)
    count = np.count_nonzero(by_band >= np.float32(1.0 - PLATEAU_DEPTH) * brightest[:, :, np.newaxis], axis=-1)
    return np.asarray(np.where(brightest > 0.0, count, 0).max(axis=1))


def _aperture(size: int, sigma: float) -> FloatArray:
    squared = (np.arange(size) - (size - 1) / 2.0) ** 2
    return np.asarray(np.exp(-0.5 * (squared[:, np.newaxis] + squared) / sigma**2)).ravel()


def score(feature_groups: FeatureGroups, features: Features) -> FloatArray:
    """Return the largest distance over all groups, (n,), of features from `extract_features`."""
    return np.asarray(np.max([group.distance(features[name]) for name, group in feature_groups.items()], axis=0))


def save(feature_groups: FeatureGroups, path: Path) -> None:
    """Write feature groups as `.npz`, an array `group/field` each."""
    np.savez(
        path, **{f"{name}/{key}": value for name, group in feature_groups.items() for key, value in vars(group).items()}
    )


def load(path: Path) -> dict[str, FeatureGroup]:
    """Read what `save` wrote; raises `InvalidBundle` if the file holds anything else."""
    try:
        with path.open("rb") as file:
            arrays = read_arrays(file)
        names = dict.fromkeys(name.partition("/")[0] for name in arrays)
        return {name: _group(arrays, name) for name in names}
    except (PhotozError, KeyError, TypeError) as error:
        raise InvalidBundle(f"{path} does not hold feature groups of the training images: {error}") from error


def _group(arrays: Mapping[str, FloatArray], name: str) -> FeatureGroup:
    mean, std, centre, whitening, scale = (arrays[f"{name}/{field.name}"] for field in fields(FeatureGroup))
    n = np.shape(mean)
    fits = len(n) == 1 and np.shape(std) == np.shape(centre) == np.shape(whitening)[:1] == n and np.ndim(whitening) == 2
    if not fits or np.shape(scale) != ():
        raise InvalidBundle(f"the shapes of {name} do not fit together")
    if not all(np.isfinite(array).all() for array in (mean, std, centre, whitening, scale)):
        raise InvalidBundle(f"expected finite numbers for {name}")
    if std.min(initial=1.0) <= 0.0 or scale <= 0.0:
        raise InvalidBundle(f"expected a std and a scale of {name} above 0")
    return FeatureGroup(mean, std, centre, whitening, float(scale))
