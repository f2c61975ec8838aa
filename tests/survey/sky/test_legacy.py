"""The cutout service of the Legacy Surveys."""

import re

import h5py
import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")

from photoz.images import ImageSpec
from photoz.io.reader import open_cutouts
from photoz_survey.sky.legacy import EXTINCTION, LAYERS, LegacySurveys
from training.imaging_surveys import read_survey


@pytest.fixture
def legacy(archive, tmp_path, photoz, here):
    """Return a function that runs the command with the cutouts of the Legacy Surveys."""
    rows = [f"{ra},{dec},0.1" for ra, dec, _ in archive.galaxies] + ["150.1,70.0,0.1"]
    (tmp_path / "list.csv").write_text("\n".join(["ra,dec,ebv", *rows]))
    given = (
        "--list",
        tmp_path / "list.csv",
        "-o",
        tmp_path / "cutouts.h5",
        "--cache",
        tmp_path,
        "--workers",
        1,
        "--overwrite",
    )
    return lambda *arguments: photoz("sky", *arguments, *given, "--archive", f"{archive.url}/viewer/fits-cutout")


def test_bands_and_extinction_are_those_of_the_survey():
    survey = read_survey("legacy")
    for layer, bands in LAYERS.items():
        coefficients = tuple(survey.bands[band].extinction for band in bands)
        expected = ImageSpec(bands=bands, pixel_scale=survey.pixel_scale, extinction_coefficients=coefficients)
        assert LegacySurveys.of("", layer, None).image == expected


def test_cutouts_of_the_legacy_surveys(legacy, archive, tmp_path):
    assert legacy("--source", "ls-dr10")[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts, h5py.File(tmp_path / "cutouts.h5") as file:
        images, ivar = cutouts.images[:], file["planes/ivar"][:]
        assert (cutouts.spec.bands, cutouts.spec.pixel_scale) == (tuple("griz"), 0.262)
        assert cutouts.provenance.startswith("layer ls-dr10 of the Legacy Surveys, cut by photoz")
        assert "ivar" not in cutouts.columns
    assert images.shape == (4, 64, 64, 4)
    assert np.isnan(images[:, :, 48:]).all()  # not covered
    np.testing.assert_array_equal(ivar, np.where(np.isfinite(images), 400.0, 0.0))
    np.testing.assert_allclose(np.nansum(images, axis=(1, 2)), np.outer([10, 20, 30, 40], [1, 2, 3, 4]), rtol=0.01)
    assert re.search('\n4,150.1,70.0,failed,.*&invvar: "?404, not found', (tmp_path / "cutouts.ledger.csv").read_text())
    asked = archive.asked.total()
    assert legacy("--source", "ls-dr10", "--offline")[0] == 0
    assert archive.asked.total() == asked


def test_answers_with_other_bands_are_refused(legacy, monkeypatch):
    monkeypatch.setitem(LAYERS, "ls-dr9", ("g", "r", "y"))
    monkeypatch.setitem(EXTINCTION, "y", 1.0)
    status, _, err = legacy("--source", "ls-dr9")
    expected = "expected the bands g,r,y in shape (3, 64, 64), got the bands grz in an image of shape (3, 64, 64)"
    assert (status, expected in err) == (1, True)
