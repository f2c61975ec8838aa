"""The cutout service of the Legacy Surveys, and whether an archive has the images that a model takes."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")


from photoz.errors import InvalidInput
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.reader import open_cutouts
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.legacy import EXTINCTION, LAYERS, LegacySurveys
from photoz_survey.sky.source import fitting
from training.imaging_surveys import read_survey


# The model's images, and why an archive does not have them.
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ImageSpec(bands="gry"), "the model takes the band y, and SDSS has u,g,r,i,z"),
        (ImageSpec(pixel_scale=0.262), r"takes pixels of 0\.262 arcsec, and those of SDSS are 0\.396 arcsec"),
        (ImageSpec(unit="Jy"), "takes pixels in Jy, and those of SDSS are in nanomaggy"),
        (
            ImageSpec(bands="g", extinction_coefficients=(3.214,)),
            r"another g band .*: A/E\(B-V\) is 3\.214 there and 3\.793",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_refused(wanted, message):
    with pytest.raises(InvalidInput, match=message):
        fitting("SDSS", SDSS_IMAGES, wanted)


def test_a_source_fits_models_of_some_bands_and_any_size():
    wanted = ImageSpec(size=32, bands="gri", pixel_scale=0.4)
    assert fitting("SDSS", SDSS_IMAGES, wanted) == replace(wanted, pixel_scale=0.396)


@pytest.fixture
def legacy(archive, tmp_path, photoz):
    """Return a function that runs the command with the cutouts of the Legacy Surveys."""
    (tmp_path / "list.csv").write_text(
        "ra,dec,ebv\n" + "\n".join(f"{ra},{dec},0.1" for ra, dec, _ in archive.galaxies) + "\n150.1,70.0,0.1\n"
    )
    archive.north = 60.0

    def legacy(*arguments):
        where = ("--archive", f"{archive.url}/viewer/fits-cutout", "--cache", str(tmp_path / "files"))
        given = (*map(str, arguments), "--list", str(tmp_path / "list.csv"))
        return photoz("sky", *given, "-o", str(tmp_path / "cutouts.h5"), *where, "--workers", "1")

    return legacy


def test_bands_and_extinction_are_those_of_the_survey():
    survey = read_survey("legacy")
    for layer, bands in LAYERS.items():
        image = LegacySurveys.of("", layer, FileCache(Path(), 0)).image
        assert image.pixel_scale == survey.pixel_scale
        assert image.extinction_coefficients == tuple(survey.bands[band].extinction for band in bands)


def test_cutouts_of_the_legacy_surveys(legacy, archive, tmp_path):
    status, _, err = legacy("--source", "ls-dr10")
    assert status == 0, err
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts, h5py.File(tmp_path / "cutouts.h5") as file:
        images, ivar = cutouts.images[:], file["planes/ivar"][:]
        assert (cutouts.spec.bands, cutouts.spec.pixel_scale) == (tuple("griz"), 0.262)
        assert cutouts.provenance.startswith("layer ls-dr10 of the Legacy Surveys, cut by photoz")
        assert "ivar" not in cutouts.columns
    assert images.shape == ivar.shape == (4, 64, 64, 4)
    assert np.isnan(images[:, :, 48:]).all()  # not covered
    np.testing.assert_array_equal(ivar > 0, np.isfinite(images))
    np.testing.assert_allclose(np.nansum(images, axis=(1, 2)), np.outer([10, 20, 30, 40], [1, 2, 3, 4]), rtol=0.01)
    (failed,) = (tmp_path / "cutouts.failed.csv").read_text().splitlines()[1:]
    assert failed.startswith("4,150.1,70.0,")
    assert failed.endswith("&invvar: 404 Not Found")
    asked = archive.asked.total()
    assert legacy("--source", "ls-dr10", "--offline")[0] == 0
    assert archive.asked.total() == asked


def test_answers_with_other_bands_or_a_smaller_size_are_refused(legacy, archive, monkeypatch):
    monkeypatch.setitem(LAYERS, "ls-dr9", ("g", "r", "y"))
    monkeypatch.setitem(EXTINCTION, "y", 1.0)
    status, _, err = legacy("--source", "ls-dr9")
    assert status == 1
    assert "expected the bands g,r,y in shape (3, 64, 64), got the bands grz in an image of shape (3, 64, 64)" in err
    archive.largest = 32
    status, _, err = legacy("--source", "ls-dr10")
    assert status == 1
    assert "got the bands griz in an image of shape (4, 32, 32)" in err
