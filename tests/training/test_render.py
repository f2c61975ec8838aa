from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.neighbors import NearestNeighbors

from photoz.images import SDSS_IMAGES, ImageSpec
from training.catalogue import Catalogue
from training.galaxies import Galaxies, draw_galaxies, draw_neighbours
from training.imaging_surveys import sdss
from training.render import add_noise, render, render_with_galsim

N = 12


@pytest.fixture(scope="module")
def galaxies(catalogue: Catalogue) -> Galaxies:
    return draw_galaxies(catalogue.fluxes[:N], SDSS_IMAGES, np.random.default_rng(5))


@pytest.fixture(scope="module")
def any_and_widest(catalogue: Catalogue) -> Galaxies:
    """200 galaxies spread over the sample and the 100 largest."""
    drawn = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, np.random.default_rng(6))
    widest = np.argsort(drawn.half_light_radius / np.sqrt(drawn.axis_ratio))[-100:]
    return _some(drawn, np.append(np.arange(0, len(drawn), len(drawn) // 199)[:200], widest))


def _some(galaxies: Galaxies, rows: np.ndarray) -> Galaxies:
    return Galaxies(**{name: values[rows] for name, values in vars(galaxies).items()})


def test_render_agrees_with_galsim(any_and_widest: Galaxies) -> None:
    ours, theirs = render(any_and_widest, SDSS_IMAGES), render_with_galsim(any_and_widest, SDSS_IMAGES)
    np.testing.assert_allclose(ours.sum(axis=(1, 2)), theirs.sum(axis=(1, 2)), rtol=1e-3)
    np.testing.assert_allclose(ours.max(axis=(1, 2)), theirs.max(axis=(1, 2)), rtol=2e-3)
    assert (np.abs(ours - theirs).max(axis=(1, 2)) < 2e-3 * theirs.max(axis=(1, 2))).all()


def test_neighbours_near_the_edge_agree_with_galsim(catalogue: Catalogue) -> None:
    _, neighbours = draw_neighbours(catalogue.fluxes[:200], SDSS_IMAGES, np.random.default_rng(7))
    ours, theirs = (draw(neighbours, SDSS_IMAGES).sum(axis=(1, 2)) for draw in (render, render_with_galsim))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_wide_stamp_has_all_flux_and_the_cutout_in_its_middle(any_and_widest: Galaxies) -> None:
    some = _some(any_and_widest, np.arange(0, 300, 10))
    wide = render(some, replace(SDSS_IMAGES, size=512))
    np.testing.assert_allclose(wide.sum(axis=(1, 2)), some.fluxes, rtol=1e-3)
    middle = wide[:, 224:288, 224:288]
    np.testing.assert_allclose(render(some, SDSS_IMAGES), middle, atol=1e-4 * middle.max())
    np.testing.assert_allclose(render(some, SDSS_IMAGES).sum(axis=(1, 2)), middle.sum(axis=(1, 2)), rtol=1e-3)


def test_offset_moves_the_light_along_x_and_y(galaxies: Galaxies) -> None:
    galaxies.offset[0] = (3.0, -2.0)
    stamp = render(galaxies, SDSS_IMAGES)[0, :, :, 2]
    y, x = np.unravel_index(np.argmax(stamp), stamp.shape)
    assert x - 31.5 == pytest.approx(3.0, abs=1.0)
    assert y - 31.5 == pytest.approx(-2.0, abs=1.0)


def test_noise_is_sky_and_photon_noise(galaxies: Galaxies) -> None:
    stamps = render(galaxies, SDSS_IMAGES)
    noisy = add_noise(stamps, galaxies, SDSS_IMAGES, np.random.default_rng(0))
    difference = (noisy - stamps)[:, :8, :8].std(axis=(1, 2))
    np.testing.assert_allclose(np.median(difference / galaxies.sky_sigma, axis=0), 1.0, atol=0.1)
    centre = (noisy - stamps)[:, 28:36, 28:36, 1].std(axis=(1, 2))  # g, where the sky is dark
    assert np.median(centre / galaxies.sky_sigma[:, 1]) > 1.2


def test_sizes_do_not_depend_on_redshift(catalogue: Catalogue) -> None:
    """At one magnitude and colour, near and far galaxies have the same sizes."""
    shapes = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, np.random.default_rng(1))
    redder = catalogue.z_spec > np.median(catalogue.z_spec)
    brightness = catalogue.magnitudes[:, 2]
    colour = catalogue.magnitudes[:, 0] - catalogue.magnitudes[:, 2]
    alike = (np.abs(brightness - np.median(brightness)) < 0.2) & (np.abs(colour - np.median(colour)) < 0.3)
    near, far = (shapes.half_light_radius[alike & which] for which in (~redder, redder))
    error = np.hypot(near.std() / np.sqrt(len(near)), far.std() / np.sqrt(len(far)))
    assert abs(near.mean() - far.mean()) < 4 * error


def test_other_sizes_and_bands_are_drawn() -> None:
    spec = ImageSpec(size=23, bands="griz")
    shapes = draw_galaxies(np.full((3, 4), 50.0), spec, np.random.default_rng(0))
    assert render(shapes, spec).shape == (3, 23, 23, 4)


def test_flux_errors_agree_with_the_catalogue(catalogue: Catalogue) -> None:
    """Fluxes under the true profile have the errors of SDSS's model fluxes to 7 %."""
    some = np.arange(0, len(catalogue), 20)
    drawn = draw_galaxies(catalogue.fluxes[some], SDSS_IMAGES, np.random.default_rng(2))
    profiles = render(replace(drawn, fluxes=np.ones_like(drawn.fluxes)), SDSS_IMAGES)
    square = (profiles**2).sum(axis=(1, 2))
    electrons = np.array([sdss().observations[band].electrons for band in SDSS_IMAGES.bands])
    sky = drawn.sky_sigma**2 / square
    photons = drawn.fluxes * (profiles**3).sum(axis=(1, 2)) / square**2 / electrons
    ratio = np.nanmedian(np.sqrt(sky + photons) / catalogue.flux_errors[some], axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=0.07)


def test_neighbours_are_off_centre_and_independent_of_the_galaxy(catalogue: Catalogue) -> None:
    fluxes = catalogue.fluxes[:4000]
    rows, neighbours = draw_neighbours(fluxes, SDSS_IMAGES, np.random.default_rng(3))
    assert len(rows) / 4000 == pytest.approx(0.5, abs=0.05)
    distance = np.hypot(*neighbours.offset.T)
    assert (distance >= 0.2 * 64).all()
    assert (distance <= 0.5 * 64).all()
    colour = 2.5 * np.log10(neighbours.fluxes[:, 2] / neighbours.fluxes[:, 1])
    own_redshift = catalogue.z_spec[:4000][rows]
    assert abs(np.corrcoef(colour, own_redshift)[0, 1]) < 4 / np.sqrt(len(rows))


@pytest.mark.parametrize("leaks", [False, True])
def test_shapes_add_no_information_about_redshift(catalogue: Catalogue, leaks: bool) -> None:
    """A regressor learns as much from a galaxy's shape as from that of its twin in magnitude and colour.

    With sizes that shrink with redshift, at the scatter of real galaxies, it does learn more.
    """
    drawn = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, np.random.default_rng(4))
    shapes = np.stack([drawn.half_light_radius, drawn.axis_ratio, drawn.bulge_fraction], axis=1)
    if leaks:
        shapes = (drawn.half_light_radius * (0.1 / catalogue.z_spec) ** 0.5)[:, None]
    magnitudes = catalogue.magnitudes
    known = np.stack([magnitudes[:, 2], magnitudes[:, 0] - magnitudes[:, 2]], axis=1)  # shapes are drawn from these
    twins = NearestNeighbors(n_neighbors=2).fit(known).kneighbors(known, return_distance=False)[:, 1]
    own, twin = (_forest_error(np.hstack([known, of]), catalogue) for of in (shapes, shapes[twins]))
    assert own < 0.95 * twin if leaks else own > 0.97 * twin


def _forest_error(features: np.ndarray, catalogue: Catalogue) -> float:
    test = catalogue.split == "test"
    forest = ExtraTreesRegressor(50, min_samples_leaf=10, random_state=0, n_jobs=1)
    predicted = forest.fit(features[~test], catalogue.z_spec[~test]).predict(features[test])
    return float(np.mean((predicted - catalogue.z_spec[test]) ** 2))
