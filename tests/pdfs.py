"""PDFs whose true redshifts are known."""

from functools import cache

import numpy as np
from scipy.special import ndtr

from photoz import pdf
from photoz.grid import SDSS_GRID


def gaussian_pdfs(mean, sigma, grid=SDSS_GRID):
    """Integrate Gaussians of mean (n,) and sigma () or (n,) over the bins of a grid; returns (n, n_bins)."""
    mean, sigma = np.atleast_1d(mean)[:, np.newaxis], np.reshape(sigma, (-1, 1))
    return pdf.as_pdfs(np.diff(ndtr((grid.edges - mean) / sigma), axis=1), grid)


@cache
def calibrated_pdfs():
    """Return PDFs of 2,000 galaxies, and a true redshift drawn from each."""
    rng = np.random.default_rng(7)
    mean = rng.uniform(0.05, 0.3, 2000)
    pdfs = gaussian_pdfs(mean, 0.014 * (1 + mean))
    draws = zip(rng.random(2000), pdf.cdf(pdfs), strict=True)
    z_spec = np.array([np.interp(u, cdf, SDSS_GRID.edges) for u, cdf in draws])
    for values in (pdfs, z_spec):
        values.flags.writeable = False  # all tests share them
    return pdfs, z_spec
