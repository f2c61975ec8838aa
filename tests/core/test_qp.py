"""qp's own metrics on the ensembles that we write agree with ours."""

from pathlib import Path

import numpy as np
import pytest
import qp
from qp.metrics.concrete_metric_classes import CDELossMetric
from qp.metrics.metrics import calculate_moment
from qp.metrics.pit import PIT
from qp.metrics.point_estimate_metric_classes import PointSigmaMAD

from photoz import estimates, metrics, pdf
from photoz.grid import SDSS_GRID as GRID
from photoz.io.tables import result_table
from photoz.io.writer import write_table

N = 500
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """PDFs of two peaks (n, n_bins), true redshifts within the bins, and the ensemble as qp reads it."""
    rng = np.random.default_rng(8)
    peaks = rng.uniform(0.02, 0.38, (N, 2, 1)), rng.uniform(0.003, 0.05, (N, 2, 1))
    pdfs = pdf.as_pdfs(np.exp(-0.5 * ((GRID.centres - peaks[0]) / peaks[1]) ** 2).sum(axis=1), GRID)
    z_spec = (rng.integers(0, GRID.n_bins, N) + rng.uniform(0.01, 0.99, N)) * GRID.width
    rows = estimates.from_pdfs(pdfs, GRID, object_id=np.arange(N).astype(str), include_pdf=True)
    path: Path = tmp_path_factory.mktemp("qp") / "z.qp.hdf5"
    write_table(result_table(rows, "model 1", GRID), path)
    return rows, z_spec, qp.read(str(path))


def test_pit_and_cde_loss(labelled):
    rows, z_spec, ensemble = labelled
    pit = metrics.pit(rows.pdf, z_spec, GRID)
    np.testing.assert_allclose(PIT(ensemble, z_spec).pit_samps, pit, rtol=0, atol=TOLERANCE)
    ends = np.sort(np.concatenate([GRID.edges[:-1] + 1e-10, GRID.edges[1:] - 1e-10]))  # trapezoids are boxes between
    loss = CDELossMetric(ends).evaluate(ensemble, z_spec)
    assert loss == pytest.approx(metrics.cde_loss(rows.pdf, z_spec, GRID).mean(), rel=TOLERANCE)


def test_moments_and_point_estimates(labelled):
    rows, z_spec, ensemble = labelled
    limits = GRID.centres[0], GRID.centres[-1]
    dx = (limits[1] - limits[0]) / (GRID.n_bins + 0.5)  # qp then takes the centres of the bins
    for n, expected in ((0, 1.0), (1, rows.z_mean)):
        np.testing.assert_allclose(calculate_moment(ensemble, n, limits, dx), expected, atol=TOLERANCE)
    np.testing.assert_allclose(ensemble.mean().ravel(), rows.z_mean, atol=TOLERANCE)
    np.testing.assert_allclose(ensemble.median().ravel(), rows.z_median, atol=TOLERANCE)
    # qp takes the variance of the centres, without that inside a bin.
    std = np.sqrt(ensemble.std().ravel() ** 2 + GRID.width**2 / 12)
    np.testing.assert_allclose(std, rows.z_std, atol=TOLERANCE)
    np.testing.assert_allclose(ensemble.mode(GRID.centres).ravel(), rows.z_mode, atol=TOLERANCE)
    sigma = PointSigmaMAD().evaluate(ensemble.ancil["z_mean"], z_spec)
    assert sigma == pytest.approx(metrics.sigma_mad(metrics.residuals(rows.z_mean, z_spec)), rel=TOLERANCE)
