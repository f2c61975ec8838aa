import numpy as np
import pytest

from photoz import metrics, pdf
from photoz.errors import InvalidDataset
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import Cutouts
from photoz.io.reader import open_cutouts
from training.baselines import (
    METHODS,
    aperture_magnitudes,
    baseline_scores,
    check_band_columns,
    colours_and_magnitude,
    gaussian_pdfs,
    local_linear_regression,
)
from training.catalogue import Catalogue


def test_local_linear_regression_reproduces_a_plane() -> None:
    rng = np.random.default_rng(0)
    features, wanted = rng.uniform(size=(500, 3)), rng.uniform(0.2, 0.8, (20, 3))
    slope = np.array([0.1, -0.05, 0.02])
    z_phot, sigma = local_linear_regression(features, 0.1 + features @ slope, wanted)
    np.testing.assert_allclose(z_phot, 0.1 + wanted @ slope, atol=1e-6)
    assert (sigma == 1e-3).all()


def test_it_reports_the_scatter_and_ignores_a_few_wild_neighbours() -> None:
    rng = np.random.default_rng(1)
    features = rng.uniform(size=(2000, 2))
    z_spec = 0.2 + 0.01 * rng.standard_normal(2000)
    z_spec[:20] = 5.0
    z_phot, sigma = local_linear_regression(features, z_spec, np.full((1, 2), 0.5))
    assert z_phot[0] == pytest.approx(0.2, abs=0.005)
    assert sigma[0] == pytest.approx(0.01, rel=0.25)


@pytest.mark.slow
def test_the_bar_is_the_published_one_for_these_galaxies(catalogue: Catalogue) -> None:
    """Figures of the design: 0.0132 for local linear regression and 0.0131 for boosted trees, same 1,986 galaxies."""
    dereddened = catalogue.magnitudes - SDSS_IMAGES.extinction * catalogue.ebv[:, None]
    features, test = colours_and_magnitude(dereddened), catalogue.split == "test"
    for method, expected in zip(METHODS.values(), (0.0132, 0.0131), strict=True):
        z_phot, _ = method(features[~test], catalogue.z_spec[~test], features[test])
        dz = metrics.residuals(z_phot, catalogue.z_spec[test])
        assert metrics.sigma_mad(dz) == pytest.approx(expected, abs=2e-4)
        assert metrics.outlier_fraction(dz) < 0.013


def test_gaussians_are_binned_with_their_mean_and_width() -> None:
    pdfs = gaussian_pdfs(np.array([0.1, 0.2]), np.array([0.02, 0.03]), SDSS_GRID)
    np.testing.assert_allclose(pdf.mean(pdfs, SDSS_GRID), [0.1, 0.2], atol=1e-4)
    np.testing.assert_allclose(pdf.std(pdfs, SDSS_GRID), [0.02, 0.03], rtol=0.02)


def test_aperture_magnitudes_follow_the_catalogues(sample_file, catalogue: Catalogue) -> None:  # noqa: ANN001
    with open_cutouts(sample_file) as cutouts:
        measured = aperture_magnitudes(cutouts, np.arange(300), SDSS_IMAGES, cutouts.columns["ebv"])
    true = catalogue.magnitudes[:300] - SDSS_IMAGES.extinction * catalogue.ebv[:300, None]
    for band in range(1, 4):
        assert np.corrcoef(measured[:, band], true[:, band])[0, 1] > 0.9


def test_methods_and_photometries_are_all_scored(sample_file) -> None:  # noqa: ANN001
    with open_cutouts(sample_file) as cutouts:
        scores = baseline_scores(cutouts, SDSS_IMAGES, SDSS_GRID, cutouts.columns["ebv"])
    assert len(scores) == 6  # two methods on three photometries
    assert all({"sigma_mad", "crps", "pit_ks"} <= set(found) for found in scores.values())


@pytest.mark.parametrize("name", ["magnitudes", "fwhm", "sky_sigma"])
def test_columns_of_other_bands_are_refused_before_training(name) -> None:  # noqa: ANN001
    images = np.zeros((6, 64, 64, 5), np.float32)
    check_band_columns(Cutouts(images, {name: np.ones((6, 5))}), SDSS_IMAGES)
    with pytest.raises(InvalidDataset, match=rf"'{name}' of shape \(6, 5\), a number a band, got \(6, 4\)"):
        check_band_columns(Cutouts(images, {name: np.ones((6, 4))}), SDSS_IMAGES)
