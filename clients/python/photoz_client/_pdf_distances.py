"""Distances between the PDFs of two models.

Notation: F is the CDF of a galaxy's PDF, piecewise linear between the edges of its grid. The two grids may differ.
"""

import numpy as np
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import mean_square


@dataclass(frozen=True)
class PdfDistances:
    """Median, 95th percentile and maximum of `quadratic_distances`, in units of redshift, and the loss in CRPS."""

    median: float
    p95: float
    largest: float
    # Fraction by which the mean CRPS of B's PDFs would exceed that of A's if A's were the truth: the mean distance over
    # the mean of `expected_crps`. It is 0.02 if all PDFs are shifted by a fifth of their sigma.
    crps_loss: float


def pdf_distances(pdfs_a: FloatArray, pdfs_b: FloatArray, grid_a: RedshiftGrid, grid_b: RedshiftGrid) -> PdfDistances:
    """Summarise the distances between PDFs, (n, n_bins) probability mass per bin of either grid."""
    distances, crps_a = np.zeros((2, len(pdfs_a)))
    for start in (blocks := range(0, len(pdfs_a), 256)):  # so that intermediate arrays stay small beside the PDFs
        rows = slice(start, start + blocks.step)
        block_a, block_b = pdf.as_pdfs(pdfs_a[rows], grid_a), pdf.as_pdfs(pdfs_b[rows], grid_b)
        distances[rows] = quadratic_distances(block_a, block_b, grid_a, grid_b)
        crps_a[rows] = expected_crps(block_a, grid_a)
    median, p95, largest = np.quantile(distances, (0.5, 0.95, 1.0)).tolist()
    return PdfDistances(median, p95, largest, float(distances.mean() / crps_a.mean()))


def quadratic_distances(
    pdfs_a: FloatArray, pdfs_b: FloatArray, grid_a: RedshiftGrid, grid_b: RedshiftGrid
) -> FloatArray:
    r"""Integrated quadratic distance between the two PDFs of each galaxy, in closed form.

    .. math:: d = \int (F_A(z) - F_B(z))^2 \, dz

    This is the divergence of the CRPS: if the true redshift is drawn from A's PDF, the CRPS of B exceeds that of A by d
    on average. The difference of the CDFs is linear between the edges of both grids; above its grid a CDF is 1.

    Parameters
    ----------
    pdfs_a, pdfs_b : (n, n_bins) float
        Probability mass per bin of the grid, rows sum to 1.
    grid_a, grid_b : RedshiftGrid
        Their grids.

    Returns
    -------
    (n,) float64
        In units of redshift: 0 for equal PDFs; the distance between the two for narrow PDFs.

    References
    ----------
    Thorarinsdottir, Gneiting and Gissibl 2013, SIAM/ASA J. Uncertainty Quantification 1, 522.
    """
    edges = np.union1d(grid_a.edges, grid_b.edges)
    z = edges[np.newaxis]  # the same redshifts for all galaxies
    difference = pdf.cdf_at(pdfs_a, grid_a, z) - pdf.cdf_at(pdfs_b, grid_b, z)
    return np.asarray(mean_square(difference[:, :-1], difference[:, 1:]) @ np.diff(edges))


def expected_crps(pdfs: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Expected CRPS of each PDF if it is the truth, int F (1 - F) dz; shape (n,), in units of redshift."""
    below = pdf.cdf(pdfs)
    low, high = below[:, :-1], below[:, 1:]
    return np.asarray(grid.width * ((low + high) / 2.0 - mean_square(low, high)).sum(axis=1))
