"""Surveys by name, and files that describe others."""

from pathlib import Path

import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz.images import SDSS_IMAGES, ImageSpec
from training.galaxies import draw_galaxies
from training.imaging_surveys import NAMES, extinction_caveats, read_survey, sdss

OTHER = 'title = "Mine"\npixel_scale = 0.5\n[bands.J]\nextinction = 0.7\nfwhm = 1.0\ndepth = 22.0\n[bands.F606W]\n'


def test_sdss_is_the_default() -> None:
    assert sdss().images() == SDSS_IMAGES
    assert list(sdss().observations) == list(SDSS_IMAGES.bands)


@pytest.mark.parametrize("name", NAMES)
def test_known_surveys_can_be_drawn(name: str) -> None:
    survey = read_survey(name)
    spec = survey.images(size=32)
    assert None not in spec.extinction_coefficients
    assert (np.diff(spec.extinction) < 0).all()
    assert list(survey.observations) == list(spec.bands)
    assert survey.extinction_source
    assert survey.psf_source
    galaxies = draw_galaxies(np.ones((50, len(spec.bands))), spec, np.random.default_rng(0), survey=survey)
    expected = [observation.fwhm for observation in survey.observations.values()]
    np.testing.assert_allclose(np.median(galaxies.fwhm, axis=0), expected, rtol=0.1)


def test_depth_is_that_of_a_point_source(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OTHER)
    observation = read_survey(str(tmp_path / "mine.toml")).observations["J"]
    offset = np.arange(-20.0, 21.0)
    psf = np.exp(-0.5 * (offset[:, np.newaxis] ** 2 + offset**2) * (2.3548 * 0.5) ** 2)
    psf /= psf.sum()
    error = observation.sky_sigma / np.sqrt((psf**2).sum())  # of the flux under the best weights
    assert 10.0 ** (0.4 * (22.5 - 22.0)) / error == pytest.approx(5.0, rel=2e-3)  # sampled by pixels
    assert observation.electrons == np.inf


def test_names_and_case_of_bands() -> None:
    des = read_survey("des")
    assert des.images(("G", "DES_z")).extinction.tolist() == [3.186, 1.196]
    assert read_survey("lsst").images(("y", "g")).extinction.tolist() == [1.088, 3.237]


def test_band_without_extinction_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OTHER)
    spec = read_survey(str(tmp_path / "mine.toml")).images()
    assert (spec.bands, spec.pixel_scale, spec.extinction_coefficients) == (("J", "F606W"), 0.5, (0.7, None))
    assert extinction_caveats(spec) == ("Not corrected for Galactic extinction in F606W: no coefficient is known.",)
    assert extinction_caveats(SDSS_IMAGES) == ()
    assert ImageSpec(bands=("K", "r")).extinction_coefficients == (None, 2.751)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "cannot be read as a survey"),
        ('title = "x"\npixel_scale = 0\nbands = {r = {}}', "pixel_scale: Input should be greater than 0"),
        ('title = "x"\npixel_scale = 0.2\nbands = {}', "expected one or more bands"),
        ('title = "x"\npixel_scale = 0.2\nbands = {r = {fwhn = 1.0}}', "bands.r.fwhn: Extra inputs are not permitted"),
        ("\xff", "cannot be read as a survey"),
    ],
)
def test_files_that_describe_no_survey(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput) as caught:
        read_survey(str(tmp_path / "mine.toml"))
    assert message in str(caught.value)
    assert str(tmp_path / "mine.toml") in str(caught.value)
    with pytest.raises(InvalidInput, match="no survey eso: expected one of des, hsc"):
        read_survey("eso")
