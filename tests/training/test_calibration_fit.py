"""Calibration of wrong PDFs, measured on galaxies that it was not fitted to."""

import numpy as np
import pytest
from scipy.special import ndtr

from photoz.calibration import Calibration, apply
from photoz.grid import SDSS_GRID, FloatArray
from photoz.metrics import crps, galaxy_scores, pit, summarise, uniform_ks
from training.calibration_fit import fit_calibration

N = 4000
WIDTH = 0.014


def toy(width: float, shift: float) -> tuple[FloatArray, FloatArray]:
    """PDFs whose width is `width` times the true one, and which lie `shift` widths too high; and true redshifts."""
    rng = np.random.default_rng(5)
    mean = rng.uniform(0.1, 0.3, N)
    sigma = WIDTH * width
    pdfs = np.diff(ndtr((SDSS_GRID.edges - (mean + shift * sigma)[:, np.newaxis]) / sigma), axis=1) + 1e-9
    return pdfs / pdfs.sum(axis=1, keepdims=True), mean + WIDTH * rng.standard_normal(N)


@pytest.mark.parametrize(
    ("width", "shift"), [(0.6, 0.0), (1.7, 0.0), (1.0, 0.4), (1.3, -0.4)], ids=["narrow", "broad", "high", "broad low"]
)
def test_calibration_corrects_wrong_pdfs(width: float, shift: float) -> None:
    pdfs, z_spec = toy(width, shift)
    record = fit_calibration(pdfs[: N // 2], z_spec[: N // 2], SDSS_GRID)
    raw, others = pdfs[N // 2 :], z_spec[N // 2 :]
    corrected = apply(raw, record.parameters)
    assert uniform_ks(pit(raw, others, SDSS_GRID)) > 0.08
    assert uniform_ks(pit(corrected, others, SDSS_GRID)) < 0.03  # 5 % of samples of 2,000 exceed it by chance
    assert crps(corrected, others, SDSS_GRID).mean() < crps(raw, others, SDSS_GRID).mean()
    coverage = summarise(galaxy_scores(corrected, others, SDSS_GRID), n_resamples=2)["coverage_68"].value
    assert coverage == pytest.approx(0.68, abs=0.035)


def test_calibration_hardly_changes_correct_pdfs() -> None:
    pdfs, z_spec = toy(1.0, 0.0)
    calibration = fit_calibration(pdfs[:500], z_spec[:500], SDSS_GRID).parameters
    np.testing.assert_allclose([calibration.temperature, calibration.a, calibration.b], 1.0, atol=0.06)


def test_record_has_scores_before_and_after() -> None:
    pdfs, z_spec = toy(0.6, 0.0)
    record = fit_calibration(pdfs[:400], z_spec[:400], SDSS_GRID)
    assert record.n_galaxies == 400
    assert record.parameters != Calibration()
    assert record.scores["after"]["pit_ks"].value < record.scores["before"]["pit_ks"].value
