"""Functions on binned redshift PDFs.

Everywhere `pdfs` is (n, n_bins) float, probability mass per bin on the given grid, rows sum to 1. The density inside a
bin is flat, so the CDF is piecewise linear between the bin edges, and every function here is exact for it. Unless it
says otherwise, a function returns (n,) float64, one value per PDF. `cdfs` is what `cdf` returns, if known.
"""

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidPdfs
from photoz.grid import BoolArray, FloatArray, IntArray, RedshiftGrid

# Half width, in units of 1 + z, of the window that `odds` sums: about twice the scatter of a good photo-z at these
# redshifts, the "2 sigma" of Benitez 2000 (ApJ 536, 571, eq. 17).
ODDS_HALF_WIDTH = 0.03

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
    np.add.accumulate(pdfs, axis=1, out=edges[:, 1:])
    edges /= edges[:, -1:]
    return edges


def cdf_at(pdfs: FloatArray, grid: RedshiftGrid, z: npt.ArrayLike, cdfs: FloatArray | None = None) -> FloatArray:
    """Cumulative distribution of each PDF at redshifts of its own, z (n,) or (n, m): 0 below the grid, 1 above it."""
    cdfs = cdf(pdfs) if cdfs is None else cdfs
    z = np.asarray(z, dtype=np.float64)
    position = np.minimum(np.maximum(z, 0.0), grid.z_max) / grid.width
    index = np.minimum(position.astype(int), grid.n_bins - 1)
    rows = np.arange(len(pdfs)) if z.ndim == 1 else np.arange(len(pdfs))[:, np.newaxis]
    low, high = cdfs[rows, index], cdfs[rows, index + 1]
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


def quantile(pdfs: FloatArray, grid: RedshiftGrid, q: npt.ArrayLike, cdfs: FloatArray | None = None) -> FloatArray:
    """Redshift below which the probability is `q`, in [0, 1]; interpolated inside the bin.

    `q` is one number, or an array whose last axis is 1 or n, such as (k, 1) for k quantiles; then the result is (k, n).
    """
    return _invert(cdf(pdfs) if cdfs is None else cdfs, grid, np.arange(len(pdfs)), np.asarray(q))


def _invert(cdfs: FloatArray, grid: RedshiftGrid, rows: IntArray, targets: FloatArray) -> FloatArray:
    """Invert piecewise-linear CDFs, each target in the CDF of its row; both of one shape, or broadcast to it."""
    n, n_edges = cdfs.shape
    # One search for all rows: the CDF of row i is shifted to [2i, 2i + 1].
    shifted = (cdfs + 2.0 * np.arange(n)[:, np.newaxis]).ravel()
    first = rows * n_edges
    high = np.minimum(np.maximum(np.searchsorted(shifted, targets + 2.0 * rows), first + 1), first + n_edges - 1)
    c_low, c_high = cdfs.take(high - 1), cdfs.take(high)
    above, rise = targets - c_low, c_high - c_low
    fraction = np.divide(above, rise, out=np.ones_like(rise), where=rise > 0)
    return np.asarray(grid.edges[high - 1 - first] + np.minimum(np.maximum(fraction, 0.0), 1.0) * grid.width)


def shortest_interval(
    pdfs: FloatArray, grid: RedshiftGrid, mass: npt.ArrayLike, cdfs: FloatArray | None = None
) -> FloatArray:
    """Shortest interval that holds a mass from (0, 1) (the highest-density interval of a one-peaked PDF); (2, n).

    `mass` is one number, or (k, 1) for k of them; then the result is (2, k, n).

    The CDF is piecewise linear, so the length of the interval is piecewise linear in its position, and at least one end
    of a shortest one lies on a bin edge. Trying every edge as the lower and as the upper end finds it exactly; left out
    are edges that it cannot reach: it is no longer than that between the quantiles (1 -+ mass) / 2, begins before the
    quantile 1 - mass and ends after the quantile `mass`.
    """
    cdfs = cdf(pdfs) if cdfs is None else cdfs
    n, mass = len(cdfs), np.atleast_1d(np.asarray(mass, dtype=np.float64))
    # The small numbers here and below allow for rounding.
    quantiles = np.stack([(1.0 - mass) / 2, (1.0 + mass) / 2, 1.0 - mass + 1e-12, mass - 1e-12])
    *ends, last_low, first_high = quantile(pdfs, grid, quantiles, cdfs)
    longest = ends[1] - ends[0]
    start, stop = np.array([[first_high - longest, first_high], [last_low, last_low + longest]]) / grid.width
    start = np.maximum(np.ceil(start.ravel() - 1e-9), 0.0).astype(int)  # in bins, of the lower and of the upper ends
    stop = np.minimum(np.floor(stop.ravel() + 1e-9), grid.n_bins).astype(int) + 1
    count = np.maximum(stop - start, 0)
    end = np.repeat(np.arange(count.size), count)
    edge = np.arange(end.size) + (start - np.cumsum(count) + count)[end]
    interval, is_lower = end % longest.size, end < longest.size
    row, masses = interval % n, np.broadcast_to(mass, longest.shape).ravel()[interval]
    found = _invert(cdfs, grid, row, cdfs[row, edge] + np.where(is_lower, masses, -masses))
    tried = np.where(is_lower, [grid.edges[edge], found], [found, grid.edges[edge]])
    length, shortest = tried[1] - tried[0], np.full(longest.size, np.inf)
    np.minimum.at(shortest, interval, length)
    best = np.flatnonzero(length == shortest[interval])[::-1]  # the first of several is assigned last
    intervals = np.reshape(ends, (2, -1))
    intervals[:, interval[best]] = tried[:, best]
    return intervals.reshape(2, *longest.shape)


def odds(pdfs: FloatArray, grid: RedshiftGrid, cdfs: FloatArray | None = None) -> FloatArray:
    """Probability within `ODDS_HALF_WIDTH` (1 + z_mode) of the mode (Benitez 2000)."""
    z = mode(pdfs, grid)
    reach = ODDS_HALF_WIDTH * (1.0 + z)
    below, above = cdf_at(pdfs, grid, np.stack([z - reach, z + reach], axis=1), cdfs).T
    return np.asarray(above - below)


def has_second_peak(pdfs: FloatArray, limit: float) -> BoolArray:
    """Whether a second peak rises above the valley between it and the highest one by `limit` of the highest; (n,)."""
    height = pdfs.max(axis=1)
    # Twice what all rises away from the peak add up to: 0 for nearly all PDFs.
    rises = np.abs(pdfs[:, 1:] - pdfs[:, :-1]).sum(axis=1) - (2.0 * height - pdfs[:, 0] - pdfs[:, -1])
    found: BoolArray = rises > limit * height
    peaks, top = pdfs[found], height[found, np.newaxis]
    bins, peak = np.arange(pdfs.shape[1]), np.argmax(peaks, axis=1)[:, np.newaxis]
    sides = (np.where(bins >= peak, peaks, top), np.where(bins <= peak, peaks, top)[:, ::-1])
    found[found] = np.max([(side - np.minimum.accumulate(side, axis=1)) >= limit * top for side in sides], axis=(0, 2))
    return found


def stack(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Sum the PDFs into an n(z): galaxies per unit redshift at the bin centres, shape (n_bins,)."""
    return np.asarray(pdfs.sum(axis=0) / grid.width)
