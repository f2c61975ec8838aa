"""Functions on binned redshift PDFs.

Everywhere `pdfs` is (n, n_bins) float, probability mass per bin on the given grid, rows sum to 1. The density inside a
bin is flat, so the CDF is piecewise linear between the bin edges, and every function here is exact for it. Unless it
says otherwise, a function returns (n,) float64, one value per PDF.
"""

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidPdfs
from photoz.grid import FloatArray, IntArray, RedshiftGrid

# Half width, in units of 1 + z, of the window that `odds` sums: about twice the scatter of a good photo-z at these
# redshifts, the "2 sigma" of Benitez 2000 (ApJ 536, 571, eq. 17).
ODDS_HALF_WIDTH = 0.03

# Galaxies per block for functions that need several times the memory of the PDFs; a block fits the processor's cache.
BLOCK = 256

# PDFs that are summarised or scored at a time, which takes several times their memory.
ROWS_AT_ONCE = 4096


def as_pdfs(pdfs: npt.ArrayLike, grid: RedshiftGrid) -> FloatArray:
    """Validate PDFs of a caller, (n, n_bins), and scale each row to sum to 1; float64.

    Raises `InvalidPdfs` if the shape is wrong or a row is negative, not finite or empty.
    """
    try:
        array = np.asarray(pdfs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidPdfs(f"expected pdfs as numbers: {error}") from error
    if array.ndim != 2 or array.shape[1] != grid.n_bins:
        raise InvalidPdfs(f"expected pdfs of shape (n, {grid.n_bins}), got {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InvalidPdfs("expected finite pdfs without negative mass")
    with np.errstate(over="ignore"):
        total = array.sum(axis=1, keepdims=True)
    bad = (total[:, 0] <= 0) | np.isinf(total[:, 0])
    if bad.any():
        raise InvalidPdfs(f"pdf {int(np.argmax(bad))} has no finite mass above 0")
    return np.asarray(array / total)


def from_network(outputs: npt.NDArray[np.floating]) -> FloatArray:
    """Return a network's softmax, (n, n_bins), as PDFs; a row is all NaN if the network overflowed."""
    masses = outputs.astype(np.float64)
    good = np.isfinite(masses).all(axis=1) & (masses >= 0).all(axis=1) & masses.any(axis=1)
    masses[~good] = np.nan
    return np.asarray(masses / masses.sum(axis=1, keepdims=True))


def cdf(pdfs: FloatArray) -> FloatArray:
    """Cumulative distribution at the bin edges, (n, n_bins + 1), from exactly 0 to exactly 1."""
    edges = np.zeros((pdfs.shape[0], pdfs.shape[1] + 1))
    np.cumsum(pdfs, axis=1, out=edges[:, 1:])
    edges /= edges[:, -1:]
    return edges


def cdf_at(pdfs: FloatArray, grid: RedshiftGrid, z: npt.ArrayLike) -> FloatArray:
    """Cumulative distribution of each PDF at redshifts of its own, z (n,) or (n, m): 0 below the grid, 1 above it."""
    cumulative = cdf(pdfs)
    z = np.asarray(z, dtype=np.float64)
    position = np.clip(z, 0.0, grid.z_max) / grid.width
    index = np.minimum(position.astype(int), grid.n_bins - 1)
    rows = np.arange(len(pdfs)) if z.ndim == 1 else np.arange(len(pdfs))[:, np.newaxis]
    low, high = cumulative[rows, index], cumulative[rows, index + 1]
    return np.asarray(low + (position - index) * (high - low))


def mean(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Expected redshift, over bin centres (left edges would bias it by half a bin)."""
    return np.asarray(pdfs @ grid.centres)


def std(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Standard deviation, with the variance of the flat density inside a bin, width^2 / 12."""
    second = pdfs @ (grid.centres**2 + grid.width**2 / 12.0)
    return np.sqrt(np.maximum(second - mean(pdfs, grid) ** 2, 0.0))


def mode(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Centre of the most probable bin."""
    return np.asarray(grid.centres[np.argmax(pdfs, axis=1)])


def median(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Redshift below which half of the probability lies."""
    return quantile(pdfs, grid, 0.5)


def quantile(pdfs: FloatArray, grid: RedshiftGrid, q: float) -> FloatArray:
    """Redshift below which the probability is `q`, in [0, 1]; interpolated inside the bin."""
    return _invert(cdf(pdfs), grid, np.arange(len(pdfs)), np.full(len(pdfs), q))


def _invert(cumulative: FloatArray, grid: RedshiftGrid, rows: IntArray, targets: FloatArray) -> FloatArray:
    """Invert piecewise-linear CDFs, each target (m,) in the CDF of its row (m,): redshifts, shape (m,)."""
    n, n_edges = cumulative.shape
    # One search for all rows: the CDF of row i is shifted to [2i, 2i + 1].
    shifted = (cumulative + 2.0 * np.arange(n)[:, np.newaxis]).ravel()
    first = rows * n_edges
    high = np.clip(np.searchsorted(shifted, targets + 2.0 * rows, side="left"), first + 1, first + n_edges - 1)
    c_low, c_high = cumulative.ravel()[high - 1], cumulative.ravel()[high]
    rise = c_high - c_low
    fraction = np.divide(targets - c_low, rise, out=np.ones_like(rise), where=rise > 0)
    return np.asarray(grid.edges[high - 1 - first] + np.clip(fraction, 0.0, 1.0) * grid.width)


def shortest_interval(pdfs: FloatArray, grid: RedshiftGrid, mass: float) -> tuple[FloatArray, FloatArray]:
    """Shortest interval with a given probability (the highest-density interval of a one-peaked PDF).

    The CDF is piecewise linear, so the length of the interval is piecewise linear in its position, and at least one end
    of a shortest one lies on a bin edge. Trying every edge as the lower and as the upper end finds it exactly.

    `mass` is the probability inside, in (0, 1). Returns the lower and the upper ends, (n,) float64 each.
    """
    if len(pdfs) > BLOCK:
        blocks = [pdfs[start : start + BLOCK] for start in range(0, len(pdfs), BLOCK)]
        z_lo, z_hi = np.concatenate([shortest_interval(block, grid, mass) for block in blocks], axis=1)
        return z_lo, z_hi
    cumulative = cdf(pdfs)
    n_edges = cumulative.shape[1]
    z_lo, z_hi = np.zeros((len(pdfs), 2 * n_edges)), np.full((len(pdfs), 2 * n_edges), np.inf)
    from_lower, from_upper = np.nonzero(cumulative + mass <= 1.0), np.nonzero(cumulative - mass >= 0.0)
    z_lo[from_lower] = grid.edges[from_lower[1]]
    z_hi[from_lower] = _invert(cumulative, grid, from_lower[0], cumulative[from_lower] + mass)
    place = (from_upper[0], from_upper[1] + n_edges)
    z_lo[place] = _invert(cumulative, grid, from_upper[0], cumulative[from_upper] - mass)
    z_hi[place] = grid.edges[from_upper[1]]
    best = np.argmin(z_hi - z_lo, axis=1)[:, np.newaxis]
    return np.take_along_axis(z_lo, best, 1)[:, 0], np.take_along_axis(z_hi, best, 1)[:, 0]


def odds(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Probability within `ODDS_HALF_WIDTH` (1 + z_mode) of the mode (Benitez 2000)."""
    z = mode(pdfs, grid)
    reach = ODDS_HALF_WIDTH * (1.0 + z)
    below, above = cdf_at(pdfs, grid, np.stack([z - reach, z + reach], axis=1)).T
    return np.asarray(above - below)


def second_peak(pdfs: FloatArray) -> FloatArray:
    """Height of a second peak above the valley between it and the highest one, in units of the highest; 0 if none."""
    peak = np.argmax(pdfs, axis=1)[:, np.newaxis]
    height = np.take_along_axis(pdfs, peak, 1)
    bins = np.arange(pdfs.shape[1])
    right = np.where(bins >= peak, pdfs, height)
    left = np.where(bins <= peak, pdfs, height)[:, ::-1]
    rises = [(side - np.minimum.accumulate(side, axis=1)).max(axis=1) for side in (right, left)]
    return np.asarray(np.maximum(*rises) / height[:, 0])


def stack(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Sum the PDFs into an n(z): galaxies per unit redshift at the bin centres, shape (n_bins,)."""
    return np.asarray(pdfs.sum(axis=0) / grid.width)
