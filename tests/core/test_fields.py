"""Cutouts at the positions of a catalogue, out of large images."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photoz.errors import InvalidDataset
from photoz.flags import Flag
from photoz.images import SDSS_IMAGES
from photoz.io.fields import open_or_cut
from photoz.io.layout import conform
from photoz.io.options import ReadOptions
from tests.core.cutout_files import SPEC
from tests.running import ROOT

FOLDER = ROOT.parent / "shared" / "data" / "sdss"
STARS = {"id": [7, 8, 9, 10], "x": [40.0, 60.5, 1.0, 500.0], "y": [30.0, 20.5, 55.0, 30.0]}  # the last lies outside


def wcs_of(shift=0.0, scale=0.2):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [50 + shift, 30]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


@pytest.fixture
def field(tmp_path):
    """Return a function that writes images of three bands and a catalogue: returns folder, catalogue and images."""

    def write(shift=0.0, scale=0.2):
        folder = tmp_path / "field"
        folder.mkdir()
        first = wcs_of(scale=scale)
        ra, dec = first.wcs_pix2world(STARS["x"], STARS["y"], 0)
        Table({"objid": STARS["id"], "RA": ra, "DEC": dec, "E_BV": [0.1] * 4}).write(tmp_path / "stars.ecsv")
        y, x = np.indices((60, 100), dtype=float)
        images = []
        for number, band in enumerate("gri"):
            wcs = wcs_of(shift * number, scale)
            at = np.transpose(wcs.wcs_world2pix(ra, dec, 0))
            light = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / 1.2**2) for a, b in at) * (number + 1)
            image = fits.PrimaryHDU(light.astype(np.float32), wcs.to_header())
            image.header.update({"FILTER": band, "BUNIT": "nanomaggy" if band != "r" else "nJy"})
            image.writeto(folder / f"{band}.fits")
            images.append(light * (1.0 if band != "r" else 1 / 3631))
        return folder, tmp_path / "stars.ecsv", np.moveaxis(np.array(images), 0, -1)

    return write


def cut(path, catalogue, spec=SPEC, **options):
    with open_or_cut(path, spec, given := ReadOptions(at=catalogue, **options)) as opened:
        cutouts, reading = conform(opened, spec, given)
        return np.asarray(cutouts.images[:]), cutouts, reading.used


def test_pixels_are_cut_out_as_they_are_if_the_bands_have_one_grid(field):
    folder, catalogue, light = field()
    images, cutouts, used = cut(folder, catalogue)
    np.testing.assert_allclose(images[0], light[26:34, 36:44], rtol=1e-5)
    np.testing.assert_allclose(images[1], light[17:25, 57:65], rtol=1e-5)
    assert np.isnan(images[2]).all(axis=(0, 2)).tolist() == [True] * 3 + [False] * 5  # columns outside of the image
    assert np.isnan(images[3]).all()
    assert cutouts.flags == 0
    assert cutouts.columns["object_id"].tolist() == STARS["id"]
    assert cutouts.columns["ebv"].tolist() == [0.1] * 4
    assert used[0] == "cutouts at the positions of stars.ecsv; bands are one grid of pixels"
    assert {"the column objid is object_id", "the column E_BV is ebv"} <= set(used)


def test_bands_of_other_grids_are_resampled_onto_one_and_other_scales_are_flagged(field):
    folder, catalogue, light = field(shift=0.5)
    images, cutouts, used = cut(folder, catalogue)
    assert "resampled to a grid of their own" in used[0]
    np.testing.assert_allclose(images[0].sum((0, 1)), light[26:34, 36:44].sum((0, 1)), rtol=0.02)
    y, x = np.indices((8, 8)) - 3.5
    centres = [(images[0] * axis[..., None]).sum((0, 1)) / images[0].sum((0, 1)) for axis in (x, y)]
    np.testing.assert_allclose(centres, 0.0, atol=0.05)
    assert cutouts.flags == 0


def test_images_of_another_scale_are_resampled_if_asked(field):
    folder, catalogue, light = field(scale=0.1)
    with pytest.raises(InvalidDataset, match=r"expected pixels of 0.2 arcsec, got 0.1: .* --resample$"):
        cut(folder, catalogue)
    images, cutouts, _ = cut(folder, catalogue, resample=True)
    assert cutouts.flags == Flag.RESAMPLED
    np.testing.assert_allclose(images[0].sum((0, 1)), light[22:38, 32:48].sum((0, 1)), rtol=1e-4)


def test_images_and_catalogues_that_cannot_be_used_are_refused(field, tmp_path):
    folder, catalogue, _ = field()
    (tmp_path / "none.csv").write_text("id,x\n1,2\n")
    with pytest.raises(InvalidDataset, match=r"none.csv lacks ra and dec; it has id, x"):
        cut(folder, tmp_path / "none.csv")
    (tmp_path / "unknown.csv").write_text("ra,dec\n150,2\n150,\n")
    with pytest.raises(InvalidDataset, match=r"unknown.csv has no position in row 2"):
        cut(folder, tmp_path / "unknown.csv")
    with fits.open(folder / "i.fits", mode="update") as hdus:
        hdus[0].header.update({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"})
    with pytest.raises(InvalidDataset, match=r"i.fits has the coordinates GLON-TAN,GLAT-TAN .*: expected right"):
        cut(folder, catalogue)
    with fits.open(folder / "i.fits", mode="update") as hdus:
        del hdus[0].header["CTYPE1"], hdus[0].header["CTYPE2"]
    with pytest.raises(InvalidDataset, match=r"i.fits has no WCS: expected one"):
        cut(folder, catalogue)
    np.save(tmp_path / "mine.npy", np.ones((2, 8, 8, 3)))
    with pytest.raises(InvalidDataset, match=r"expected FITS images to cut galaxies out of, got .*mine.npy"):
        cut(tmp_path / "mine.npy", catalogue)


@pytest.mark.acceptance
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files")
def test_a_field_of_sdss_in_five_bands(tmp_path):
    with (
        fits.open(FOLDER / "frame-r-002583-2-0136.fits.bz2") as hdus,
        warnings.catch_warnings(action="ignore"),  # of outdated keywords
    ):
        wcs, pixels = WCS(hdus[0].header), hdus[0].data
    y, x = np.unravel_index(np.argmax(pixels[200:1200, 200:1800]), (1000, 1600))
    ra, dec = wcs.wcs_pix2world([x + 200.0, 500.0], [y + 200.0, 400.0], 0)
    Table({"ra": ra, "dec": dec, "z_spec": [0.1, 0.2]}).write(tmp_path / "two.csv")
    images, cutouts, _ = cut(Path(f"{FOLDER}/frame-*-002583-2-0136.fits.bz2"), tmp_path / "two.csv", SDSS_IMAGES)
    assert images.shape == (2, 64, 64, 5)
    assert np.isfinite(images).all()
    assert images[0, 30:34, 30:34, 2].max() > 0.7 * pixels[y + 200, x + 200]  # a star, which resampling widens
    assert cutouts.columns["z_spec"].tolist() == [0.1, 0.2]
