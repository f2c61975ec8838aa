import numpy as np
import pytest

from photoz.images import SDSS_IMAGES, ImageSpec
from training.catalogue import Catalogue
from training.galaxies import Galaxies, draw_galaxies
from training.render import add_noise, render, render_with_galsim

N = 12


@pytest.fixture(scope="module")
def galaxies(catalogue: Catalogue) -> Galaxies:
    return draw_galaxies(catalogue.fluxes[:N], SDSS_IMAGES, np.random.default_rng(5))


def test_fourier_sums_agree_with_galsim(galaxies: Galaxies) -> None:
    ours, theirs = render(galaxies, SDSS_IMAGES), render_with_galsim(galaxies, SDSS_IMAGES)
    # Light of the widest galaxies wraps around the grid: at most a percent of it.
    np.testing.assert_allclose(ours.sum(axis=(1, 2)), theirs.sum(axis=(1, 2)), rtol=0.01)
    np.testing.assert_allclose(ours.max(axis=(1, 2)), theirs.max(axis=(1, 2)), rtol=2e-3)
    assert np.abs(ours - theirs).max() < 2e-3 * theirs.max()


def test_the_flux_of_a_small_galaxy_is_conserved() -> None:
    rng = np.random.default_rng(0)
    small = draw_galaxies(np.full((4, 5), 100.0), SDSS_IMAGES, rng)
    small.half_light_radius[:] = 0.6
    np.testing.assert_allclose(render(small, SDSS_IMAGES).sum(axis=(1, 2)), small.fluxes, rtol=0.02)


def test_the_offset_moves_the_light_along_x_and_y(galaxies: Galaxies) -> None:
    galaxies.offset[0] = (3.0, -2.0)
    stamp = render(galaxies, SDSS_IMAGES)[0, :, :, 2]
    y, x = np.unravel_index(np.argmax(stamp), stamp.shape)
    assert x - 31.5 == pytest.approx(3.0, abs=1.0)
    assert y - 31.5 == pytest.approx(-2.0, abs=1.0)


def test_noise_is_that_of_sky_and_photons(galaxies: Galaxies) -> None:
    stamps = render(galaxies, SDSS_IMAGES)
    noisy = add_noise(stamps, galaxies, SDSS_IMAGES, np.random.default_rng(0))
    difference = (noisy - stamps)[:, :8, :8].std(axis=(1, 2))
    np.testing.assert_allclose(np.median(difference / galaxies.sky_sigma, axis=0), 1.0, atol=0.1)
    centre = (noisy - stamps)[:, 28:36, 28:36, 1].std(axis=(1, 2))  # g, where the sky is dark
    assert np.median(centre / galaxies.sky_sigma[:, 1]) > 1.2


def test_redshift_does_not_enter_the_drawing(catalogue: Catalogue) -> None:
    """Shapes follow from fluxes and chance alone: draw_galaxies is not even told the redshift."""
    shapes = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, np.random.default_rng(1))
    redder = catalogue.z_spec > np.median(catalogue.z_spec)
    brightness = catalogue.magnitudes[:, 2]
    # At one magnitude and colour, sizes of near and far galaxies are the same.
    colour = catalogue.magnitudes[:, 0] - catalogue.magnitudes[:, 2]
    alike = (np.abs(brightness - np.median(brightness)) < 0.2) & (np.abs(colour - np.median(colour)) < 0.3)
    near, far = (shapes.half_light_radius[alike & which] for which in (~redder, redder))
    error = np.hypot(near.std() / np.sqrt(len(near)), far.std() / np.sqrt(len(far)))
    assert abs(near.mean() - far.mean()) < 4 * error


def test_other_sizes_and_bands_are_drawn() -> None:
    spec = ImageSpec(size=23, bands="griz")
    shapes = draw_galaxies(np.full((3, 4), 50.0), spec, np.random.default_rng(0))
    assert render(shapes, spec).shape == (3, 23, 23, 4)
