"""Distances between PDFs, checked by numerical integration and by drawing true redshifts from the PDFs."""

import numpy as np
import pytest

from photoz import metrics, pdf
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz_client._pdf_distances import expected_crps, pdf_distances, quadratic_distances

COARSE, FINE = RedshiftGrid(0.6, 12), RedshiftGrid(0.4, 20)


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


def test_distance_is_the_integral_of_its_definition_for_different_grids(rng):
    pdfs_a, pdfs_b = rng.dirichlet(np.full(12, 0.3), 20), rng.dirichlet(np.full(20, 0.3), 20)
    z = (np.arange(60_000) + 0.5) * 1e-5
    for a, b, distance in zip(pdfs_a, pdfs_b, quadratic_distances(pdfs_a, pdfs_b, COARSE, FINE), strict=True):
        cdf_a = np.interp(z, COARSE.edges, pdf.cdf(a[np.newaxis])[0])
        cdf_b = np.interp(z, FINE.edges, pdf.cdf(b[np.newaxis])[0])
        assert distance == pytest.approx(((cdf_a - cdf_b) ** 2).sum() * 1e-5, rel=1e-5)


def test_distance_is_the_loss_in_crps_for_true_redshifts_drawn_from_a(calibrated, gaussian_pdfs):
    pdfs, z_spec = calibrated
    others = gaussian_pdfs(pdf.mean(pdfs, SDSS_GRID) + 0.01, 0.025)
    crps_a, crps_b = (metrics.crps(of, z_spec, SDSS_GRID) for of in (pdfs, others))
    for drawn, expected in (
        (crps_a, expected_crps(pdfs, SDSS_GRID)),
        (crps_b - crps_a, quadratic_distances(pdfs, others, SDSS_GRID, SDSS_GRID)),
    ):
        assert abs(drawn.mean() - expected.mean()) < 3 * drawn.std() / np.sqrt(len(drawn))


def test_a_shift_by_a_fifth_of_sigma_loses_two_percent_of_the_crps(gaussian_pdfs):
    mean = np.linspace(0.1, 0.3, 100)
    moved = pdf_distances(gaussian_pdfs(mean, 0.02), gaussian_pdfs(mean + 0.004, 0.02), SDSS_GRID, SDSS_GRID)
    assert moved.crps_loss == pytest.approx(0.02, rel=0.03)
    assert 0 < moved.median <= moved.p95 <= moved.largest


def test_summary_of_several_blocks_is_that_of_the_whole(rng):
    pdfs_a, pdfs_b = rng.dirichlet(np.ones(12), 600), rng.dirichlet(np.ones(20), 600)
    summary, whole = pdf_distances(pdfs_a, pdfs_b, COARSE, FINE), quadratic_distances(pdfs_a, pdfs_b, COARSE, FINE)
    assert summary.largest == pytest.approx(whole.max())
    assert summary.p95 == pytest.approx(np.percentile(whole, 95))
    assert summary.crps_loss == pytest.approx(whole.sum() / expected_crps(pdfs_a, COARSE).sum())
