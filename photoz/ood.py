"""How unlike the training images a cutout is: the `ood_score`.

A cutout is looked at in several parts, and each is compared with the training galaxies by the Mahalanobis distance of
Lee et al. 2018 (NeurIPS 31, 7167):

* **features**: what the network itself makes of the cutout before its last layers. Swapped bands, empty sky, and
  whatever else would change the answer;
* **noise**: the logarithm of each band's noise on the border. Other units, other exposures, bands in the wrong order;
* **concentration**: how much of the light around the centre falls into its core. Stars: a network that sums fluxes does
  not see them, since only the colours of a star matter to it. Cores that are clipped to a plateau, as by saturation,
  count as more concentrated than any star: what they lack moves the colours by little enough to be believed.

A part's distance is divided by the one that a few in a thousand training galaxies exceed; the score is the largest. So
about 1 is as far out as the training galaxies go; the exact threshold is in the card.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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

# Pixels within a thousandth of the brightest one in the centre of a band: noise keeps them apart, and none of 8,192
# rendered training cutouts had more of them than this. A core clipped at 0.7 of its peak has.
MOST_LEVEL = 4
LEVEL = 1e-3

# Distances in units of the scatter beyond about this count by their logarithm: the tails of real features are heavy.
TAIL = 3.0

# What stands for a distance that cannot be told, since a feature is not finite.
FARTHEST = 1e6

_TINY = 1e-12

Features = Mapping[str, FloatArray]


@dataclass(frozen=True)
class FeatureGroup:
    """What the training galaxies look like in one part.

    Parameters
    ----------
    mean, std : (p,) float
        Of the values themselves.
    centre : (p,) float
        Mean of the standardised values with their tails compressed.
    whitening : (p, k) float
        Takes those, less the centre, to k uncorrelated ones of variance 1.
    scale : float
        Distance that few training galaxies exceed.
    """

    mean: FloatArray
    std: FloatArray
    centre: FloatArray
    whitening: FloatArray
    scale: float

    def distance(self, values: FloatArray) -> FloatArray:
        """Return the distance of values (n, p) in units of the scale, shape (n,); `FARTHEST` if any is not finite."""
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
    """Look at cutouts in all parts.

    Parameters
    ----------
    images : (n, size, size, n_bands) float32
        Finite pixels.
    features : (n, n_features) float, or None
        Of the network, where it has any.
    noise : (n, n_bands) float, optional
        Of the images, if `photoz.images.border_noise` has been asked already.

    Returns
    -------
    dict of str to (n, p) float64
        The parts by name.
    """
    noise = np.asarray(border_noise(images) if noise is None else noise, dtype=np.float64)
    seen = {"noise": np.log(np.maximum(noise, _TINY)), "concentration": _concentration(images, noise)}
    return seen if features is None else {FEATURES: np.asarray(features, dtype=np.float64), **seen}


def _concentration(images: npt.NDArray[np.float32], noise: FloatArray) -> FloatArray:
    """Ratio of the light in the core to the whole, over all bands in units of their noise; (n, 1).

    Of a core that is clipped to a plateau it is the number of its pixels instead.
    """
    size = images.shape[1]
    pixels = images.reshape(len(images), size * size, -1)
    weights = np.stack([_aperture(size, sigma * size) for sigma in (CORE, WHOLE)]).astype(np.float32)
    significance = np.divide(1.0, noise, out=np.zeros_like(noise), where=noise > _TINY)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is as far out as can be
        sums = np.matmul(weights, pixels).astype(np.float64)  # (n, 2, n_bands)
        core, whole = np.maximum(np.einsum("nab,nb->an", sums, significance), _TINY)
        ratio = core / np.maximum(whole, core)
    level = _plateau(images)
    return np.where(level > MOST_LEVEL, level, ratio)[:, np.newaxis]


def _plateau(images: npt.NDArray[np.float32]) -> IntArray:
    """Pixels in the centre that are as bright as the brightest, in the band with most of them; (n,)."""
    # Along the last axis numpy is five times as fast.
    by_band = np.ascontiguousarray(central_box(images).transpose(0, 2, 1))
    brightest = by_band.max(axis=-1)
    level = np.count_nonzero(by_band >= np.float32(1.0 - LEVEL) * brightest[:, :, np.newaxis], axis=-1)
    return np.asarray(np.where(brightest > 0.0, level, 0).max(axis=1))


def _aperture(size: int, sigma: float) -> FloatArray:
    squared = (np.arange(size) - (size - 1) / 2.0) ** 2
    return np.asarray(np.exp(-0.5 * (squared[:, np.newaxis] + squared) / sigma**2)).ravel()


def score(feature_groups: FeatureGroups, seen: Features) -> FloatArray:
    """Score cutouts.

    Parameters
    ----------
    feature_groups : dict of str to FeatureGroup
        Of the training galaxies.
    seen : dict of str to (n, p) float
        From `extract_features`; it must have all parts of `feature_groups`.

    Returns
    -------
    (n,) float64
        The largest distance over the parts.
    """
    return np.asarray(np.max([part.distance(seen[name]) for name, part in feature_groups.items()], axis=0))


def save(feature_groups: FeatureGroups, path: Path) -> None:
    """Write it as `.npz`, an array `part/field` for each."""
    arrays = {f"{name}/{field}": value for name, part in feature_groups.items() for field, value in vars(part).items()}
    np.savez(path, **arrays)


def load(path: Path) -> dict[str, FeatureGroup]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to FeatureGroup
        As it was.

    Raises
    ------
    InvalidBundle
        If it is something else.
    """
    try:
        with path.open("rb") as file:
            arrays = read_arrays(file)
        names = dict.fromkeys(name.partition("/")[0] for name in arrays)
        return {name: _part(arrays, name) for name in names}
    except (PhotozError, KeyError, TypeError) as error:
        raise InvalidBundle(f"{path} does not tell what the training images look like: {error}") from error


def _part(arrays: Mapping[str, FloatArray], name: str) -> FeatureGroup:
    mean, std, centre, whitening = (arrays[f"{name}/{field}"] for field in ("mean", "std", "centre", "whitening"))
    return FeatureGroup(mean, std, centre, whitening, float(arrays[f"{name}/scale"]))
