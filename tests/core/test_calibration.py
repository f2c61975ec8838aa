import numpy as np
import pytest
from pydantic import ValidationError

from photoz import pdf
from photoz.calibration import Calibration, apply
from photoz.grid import SDSS_GRID


@pytest.fixture
def pdfs(gaussian_pdfs):
    return gaussian_pdfs(np.array([0.0, 0.05, 0.2, 0.39]), [0.004, 0.01, 0.05, 0.2])


@pytest.mark.parametrize("nothing", [None, Calibration(), Calibration(1.0, 1.0, 1.0)])
def test_default_calibration_changes_nothing(pdfs, nothing):
    np.testing.assert_array_equal(apply(pdfs, nothing), pdfs)


@pytest.mark.parametrize("temperature", [0.05, 0.8, 1.3, 20.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.5, 1.7), (3.0, 0.3), (0.05, 20.0)])
def test_recalibrated_pdfs_are_pdfs(pdfs, temperature, a, b):
    for given in (pdfs, np.eye(SDSS_GRID.n_bins), np.full((1, 180), 1 / 180)):
        recalibrated = apply(given, Calibration(temperature, a, b))
        assert np.isfinite(recalibrated).all()
        assert (recalibrated >= 0.0).all()
        np.testing.assert_allclose(recalibrated.sum(axis=1), 1.0, atol=1e-12)


def test_temperature_scales_gaussian_width_by_its_root(gaussian_pdfs):
    recalibrated = apply(gaussian_pdfs(0.2, 0.02), Calibration(temperature=2.25))
    np.testing.assert_allclose(recalibrated, gaussian_pdfs(0.2, 0.03), atol=1e-4)


@pytest.mark.parametrize(("a", "b"), [(1.4, 1.0), (1.0, 1.4), (0.8, 1.2)])
def test_cdf_is_mapped_as_documented(pdfs, a, b):
    expected = 1.0 - (1.0 - pdf.cdf(pdfs) ** a) ** b
    np.testing.assert_allclose(pdf.cdf(apply(pdfs, Calibration(a=a, b=b))), expected, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("name", ["temperature", "a", "b"])
def test_invalid_parameters_are_refused(name, value):
    with pytest.raises(ValidationError):
        Calibration(**{name: value})
