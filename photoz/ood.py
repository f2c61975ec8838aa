"""Out-of-distribution detection: how unlike the training images a cutout is, the `ood_score`.

Groups of features are compared with the training galaxies by the Mahalanobis distance of Lee et al. 2018
(NeurIPS 31, 7167):

* **features**: activations of the network before its last layers. They detect swapped bands, empty sky, and anything
  else that would change the estimate;
* **noise**: the logarithm of each band's noise on the border. It detects other units, other exposures, and bands in the
  wrong order;
* **background**: the median on the border in units of the noise. It detects sky that was left in;
* **sharpness**: the largest excess of a pixel over what the PSF allows it of the light around it, in units of the noise
  of its band. It detects hot pixels and cosmic rays: no star or galaxy is narrower than the PSF;
* **single_band**: the brightest block that is brighter in a band than in its two neighbours together. It detects
  satellite trails and anything else without a continuous spectrum;
* **dark_line**: the largest deficit of a row or column against both of its neighbours. It detects dead columns;
* **concentration**: the fraction of the light around the centre that falls into its core. It detects stars, which a
  network that sums fluxes recognises only by their colours. A core clipped to a plateau, as by saturation, counts as
  more concentrated than any star: it changes the colours too little to be noticed otherwise.

The distance of a group is divided by the distance that a few in a thousand training galaxies exceed, and the score is
the largest. So few training galaxies exceed 1; the exact threshold is in the model card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidBundle, PhotozError
from photoz.grid import FloatArray
from photoz.images import Border, central_box, measure_border
from photoz.io.npz import read_arrays

FEATURES = "features"

# Gaussian apertures of the concentration, sigma in units of the side: 2 and 6 pixels of 64.
CORE, WHOLE = 1 / 32, 3 / 32

# A plateau is more than this many pixels within a thousandth of the brightest one in the centre of a band. Noise
# separates unclipped pixels: none of 8,192 rendered training cutouts had more; cores clipped at 0.7 of their peak do.
PLATEAU_PIXELS = 4
PLATEAU_DEPTH = 1e-3

# Largest fraction that a pixel may have of the light of its block of 2x2 pixels, or of a brighter block beside it.
# With a PSF of 2.6 pixels FWHM, the sharpest of SDSS, a pixel has at most 0.48.
SHARP_FRACTION = 0.55

# Standardised values are compressed to their logarithm beyond about this: the tails of real features are heavy.
TAIL = 3.0

# Distance of features that are not finite.
FARTHEST = 1e6

_TINY = 1e-12

Features = Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)  # so that groups can be arguments of a cached function
class FeatureGroup:
    """Distribution of one group of p features over the training galaxies."""

    mean: FloatArray  # (p,)
    std: FloatArray  # (p,)
    centre: FloatArray  # (p,), mean of the standardised features with compressed tails
    whitening: FloatArray  # (p, k); maps those, less the centre, to k uncorrelated values of variance 1
    scale: float  # distance that few training galaxies exceed


FeatureGroups = Mapping[str, FeatureGroup]


def compress(standardised: FloatArray) -> FloatArray:
    """Compress the tails of standardised values: linear within `TAIL`, logarithmic beyond."""
    return np.asarray(TAIL * np.arcsinh(standardised / TAIL))


def extract_features(
    images: npt.NDArray[np.float32],
    features: npt.NDArray[np.floating[Any]] | None,
    border: Border | None = None,
) -> dict[str, FloatArray]:
    """Compute all groups of features, (n, p) float64 each, by name.

    Parameters
    ----------
    images : (n, size, size, n_bands) float32
        Finite pixels.
    features : (n, n_features) float, or None
        Of the network, if it has any.
    border : Border, optional
        Result of `photoz.images.measure_border`; computed if not given.
    """
    border, rows = border or measure_border(images), _central_half(images)
    noise = np.asarray(border.noise, dtype=np.float64)
    per_noise = _inverse(noise)
    with np.errstate(over="ignore", invalid="ignore"):  # pixels near the largest float32 come from no real galaxy
        groups = {
            "noise": np.log(np.maximum(noise, _TINY)),
            "background": border.median * per_noise,
            **_defects(rows, noise, per_noise),
            "concentration": _concentration(images, rows, per_noise),
        }
    return groups if features is None else {FEATURES: np.asarray(features, dtype=np.float64), **groups}


def _inverse(noise: FloatArray) -> FloatArray:
    """Return 1 / noise; 0 where there is none."""
    return np.divide(1.0, noise, out=np.zeros_like(noise), where=noise > _TINY)


def _central_half(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Copy the central half of cutouts, (n, size / 2, size / 2 n_bands): the bands of a pixel, then those of the next.

    Rows are kept flat: numpy is slow where the last axis is short.
    """
    n, size, _, n_bands = images.shape
    low, half = size // 4, size // 4 * 2
    return images.reshape(n, size, -1)[:, low : low + half, low * n_bands : (low + half) * n_bands].copy()


def _defects(rows: npt.NDArray[np.float32], noise: FloatArray, per_noise: FloatArray) -> dict[str, FloatArray]:
    """Measure "sharpness", "single_band" and "dark_line" in the rows of `_central_half`; (n, n_bands) each."""
    (n, half, _), n_bands = rows.shape, noise.shape[1]
    differences = _band_minus_its_neighbours(n_bands)
    total = _of_blocks(rows, n_bands, np.add)
    single = _largest((total.reshape(-1, n_bands) @ differences).reshape(total.shape), n_bands)
    sharp = _largest_around(total, 2 * n_bands)
    sharp *= -np.float32(SHARP_FRACTION)
    sharp += _of_blocks(rows, n_bands, np.maximum)
    columns = rows.sum(axis=1).reshape(n, half, n_bands)
    lines = (rows.reshape(n * half, -1) @ _sum_of_bands(half, n_bands)).reshape(n, half, n_bands)
    return {
        "sharpness": _largest(sharp, n_bands) * per_noise,
        "single_band": single * _inverse(noise @ np.abs(differences)),
        "dark_line": np.maximum(_largest_gap(columns), _largest_gap(lines)) * per_noise,
    }


def _of_blocks(rows: npt.NDArray[np.float32], n_bands: int, combine: np.ufunc) -> npt.NDArray[np.float32]:
    """Combine the pixels of blocks of 2x2 that begin in each second row and each column, (n, size / 2, ...)."""
    pairs = combine(rows[:, ::2], rows[:, 1::2])
    return np.asarray(combine(pairs[..., :-n_bands], pairs[..., n_bands:]))


def _largest_around(blocks: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """Largest of each block and the eight around it; those in the same row are `step` values apart."""
    column = blocks.copy()
    np.maximum(column[:, 1:], blocks[:, :-1], out=column[:, 1:])
    np.maximum(column[:, :-1], blocks[:, 1:], out=column[:, :-1])
    around = column.copy()
    np.maximum(around[..., step:], column[..., :-step], out=around[..., step:])
    np.maximum(around[..., :-step], column[..., step:], out=around[..., :-step])
    return around


@cache
def _sum_of_bands(n_pixels: int, n_bands: int) -> npt.NDArray[np.float32]:
    """Matrix that sums each band over the pixels of a flat row."""
    return np.tile(np.eye(n_bands, dtype=np.float32), (n_pixels, 1))


@cache
def _band_minus_its_neighbours(n_bands: int) -> npt.NDArray[np.float32]:
    """Matrix that subtracts from each band those before and after it; from the first and last twice their neighbour."""
    matrix = np.eye(n_bands, dtype=np.float32)
    for band in range(n_bands if n_bands > 1 else 0):
        for neighbour in (band - 1 if band else 1, band + 1 if band < n_bands - 1 else n_bands - 2):
            matrix[neighbour, band] -= 1.0
    return matrix


def _largest(values: npt.NDArray[np.float32], n_bands: int) -> npt.NDArray[np.float32]:
    """Largest of each band in flat rows (n, m, k n_bands); (n, n_bands)."""
    return _halved(_halved(values).reshape(len(values), -1, n_bands))


def _halved(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Largest along the second axis, by halves: half the time of `max` where the last axis is short."""
    while (n := values.shape[1]) > 1:
        values = np.maximum(values[:, : (n + 1) // 2], values[:, n // 2 :])
    return values[:, 0]


def _largest_gap(profile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Largest amount by which a value of a profile (n, size, n_bands) is below both beside it; (n, n_bands)."""
    return _halved(np.minimum(profile[:, :-2], profile[:, 2:]) - profile[:, 1:-1])


def _concentration(images: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], per_noise: FloatArray) -> FloatArray:
    """Ratio of core to total light over all bands in units of their noise, or pixels of a plateau; (n, 1).

    The light is that of the central half, `rows` of `_central_half`.
    """
    n, half, _ = rows.shape
    apertures = _apertures(half, images.shape[1])
    lines = np.matmul(apertures, rows).reshape(n, 2, half, -1)  # Gaussians are separable
    sums = np.matmul(apertures[:, np.newaxis], lines)[:, :, 0].astype(np.float64)
    core, whole = np.maximum(np.einsum("nab,nb->an", sums, per_noise), _TINY)
    ratio = core / np.maximum(whole, core)  # where it is not finite, the distance is `FARTHEST`
    by_band = np.ascontiguousarray(central_box(images).transpose(0, 2, 1))  # numpy is faster along the last axis
    brightest = by_band.max(axis=-1)
    count = np.count_nonzero(by_band >= np.float32(1.0 - PLATEAU_DEPTH) * brightest[:, :, np.newaxis], axis=-1)
    plateau = np.where(brightest > 0.0, count, 0).max(axis=1)  # of the band with most such pixels
    return np.asarray(np.where(plateau > PLATEAU_PIXELS, plateau, ratio)[:, np.newaxis])


@cache
def _apertures(n_pixels: int, size: int) -> npt.NDArray[np.float32]:
    """Profiles of the core and of the whole across the middle of a cutout, (2, n_pixels)."""
    offset = (np.arange(n_pixels) - (n_pixels - 1) / 2.0) / size
    return np.asarray(np.exp(-0.5 * (offset / np.array([[CORE], [WHOLE]])) ** 2), dtype=np.float32)


def score(feature_groups: FeatureGroups, features: Features) -> FloatArray:
    """Return the largest distance over all groups, (n,), of features from `extract_features`.

    Each is in units of its group's scale, and `FARTHEST` if a feature of the group is not finite.
    """
    mean, std, centre, whitening, first_rows, first_columns = _stacked(tuple(feature_groups.values()))
    values = np.concatenate([features[name] for name in feature_groups], axis=1)
    finite = np.isfinite(values)
    offset = compress((np.where(finite, values, mean) - mean) / std) - centre
    squared = np.add.reduceat((offset @ whitening) ** 2, first_columns, axis=1)
    usable = np.logical_and.reduceat(finite, first_rows, axis=1)
    return np.asarray(np.where(usable, np.sqrt(squared), FARTHEST).max(axis=1))


@lru_cache(maxsize=4)
def _stacked(groups: tuple[FeatureGroup, ...]) -> tuple[npt.NDArray[Any], ...]:
    """Join groups, so that one product gives all distances: for few galaxies a call of numpy costs more than its work.

    Returns the fields, the whitening divided by the scale, and its first row and first column of each group.
    """
    mean, std, centre = (
        np.concatenate([getattr(group, name) for group in groups]) for name in ("mean", "std", "centre")
    )
    corners = np.cumsum([(0, 0), *(group.whitening.shape for group in groups)], axis=0)
    whitening = np.zeros(corners[-1])
    for group, (row, column), (below, right) in zip(groups, corners, corners[1:], strict=False):
        whitening[row:below, column:right] = group.whitening / group.scale
    return mean, std, centre, whitening, *corners[:-1].T


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
