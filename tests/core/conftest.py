import warnings

import numpy as np
import pytest
from hypothesis import settings
from scipy.special import ndtr

from photoz import pdf
from photoz.grid import SDSS_GRID

with warnings.catch_warnings():  # its docstrings have invalid escapes
    warnings.simplefilter("ignore")
    import properscoring  # noqa: F401

# The same examples on every run, and no folder of examples left behind.
settings.register_profile("core", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile("core")


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def gaussian_pdfs():
    """Return a function that integrates Gaussians over bins: (mean (n,), sigma, grid) -> (n, n_bins)."""

    def bin_gaussians(mean, sigma, grid=SDSS_GRID):
        mean, sigma = np.atleast_1d(mean)[:, np.newaxis], np.reshape(sigma, (-1, 1))
        return pdf.as_pdfs(np.diff(ndtr((grid.edges - mean) / sigma), axis=1), grid)

    return bin_gaussians


@pytest.fixture(scope="session")
def calibrated(gaussian_pdfs):
    """PDFs of 2,000 galaxies, and true redshifts drawn from them."""
    rng = np.random.default_rng(7)
    mean = rng.uniform(0.05, 0.3, 2000)
    pdfs = gaussian_pdfs(mean, 0.014 * (1 + mean))
    draws = zip(rng.random(2000), pdf.cdf(pdfs), strict=True)
    return pdfs, np.array([np.interp(u, cdf, SDSS_GRID.edges) for u, cdf in draws])
