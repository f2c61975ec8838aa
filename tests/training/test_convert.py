"""Cutouts of a survey's own files, converted to the format that training reads."""

import numpy as np
from astropy.io import fits
from click.testing import CliRunner

from photoz.images import ImageSpec
from photoz.io.reader import open_cutouts
from training.cli import main

IMAGES = np.random.default_rng(0).normal(size=(5, 4, 12, 12)).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def write(path, **header):
    hdu = fits.PrimaryHDU(IMAGES)
    hdu.header.update(header)
    hdu.writeto(path)


def test_fits_becomes_a_described_hdf5_file(tmp_path):
    write(tmp_path / "mine.fits", BANDS="griz", BUNIT="nJy")
    done = run(tmp_path / "mine.fits", tmp_path / "mine.h5", "--pixel-scale", 0.2, "--size", 8)
    assert done.exit_code == 0
    report = (
        f"{tmp_path / 'mine.fits'}: 5 cutouts read, all used\n  assumed: the central 8x8 of 12x12 pixels are used\n"
    )
    assert report + "  assumed: pixels are multiplied by 0.000275406, for the unit nJy\n" in done.stderr
    with open_cutouts(tmp_path / "mine.h5") as cutouts:
        assert cutouts.spec == ImageSpec(size=8, bands="griz", pixel_scale=0.2, unit="nanomaggy")
        expected = np.moveaxis(IMAGES[..., 2:10, 2:10], 1, -1) * 1e-3 / 3.631
        np.testing.assert_allclose(cutouts.images[:], expected, rtol=1e-6)


def test_some_of_the_bands(tmp_path):
    write(tmp_path / "mine.fits", BANDS="griz", BUNIT="nanomaggy")
    assert run(tmp_path / "mine.fits", tmp_path / "mine.h5", "--bands", "zr", "--pixel-scale", 0.2).exit_code == 0
    with open_cutouts(tmp_path / "mine.h5") as cutouts:
        np.testing.assert_array_equal(cutouts.images[:], np.moveaxis(IMAGES[:, [3, 1]], 1, -1))


def test_bands_that_the_file_does_not_name(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.moveaxis(IMAGES, 1, -1), z_spec=np.full(5, 0.1))
    for options, message in ((["--pixel-scale", 0.2], "which bands"), (["--bands", "griz"], "how wide its pixels are")):
        refused = run(tmp_path / "mine.npz", tmp_path / "mine.h5", *options)
        assert refused.exit_code == 1
        assert message in refused.stderr
    assert run(tmp_path / "mine.npz", tmp_path / "mine.h5", "--bands", "griz", "--pixel-scale", 0.2).exit_code == 0
    with open_cutouts(tmp_path / "mine.h5") as cutouts:
        assert cutouts.spec == ImageSpec(size=12, bands="griz", pixel_scale=0.2)
        assert cutouts.column("z_spec").tolist() == [0.1] * 5


def test_survey_says_what_the_file_does_not(tmp_path):
    write(tmp_path / "mine.fits")
    done = run(tmp_path / "mine.fits", tmp_path / "mine.h5", "--survey", "hsc", "--bands", "grzy")
    assert done.exit_code == 0, done.stderr
    assert "pixels are multiplied by 0.0158489, for the zero point 27" in done.stderr
    with open_cutouts(tmp_path / "mine.h5") as cutouts:
        assert cutouts.spec.extinction_coefficients == (3.240, 2.276, 1.263, 1.075)
        assert (cutouts.spec.pixel_scale, cutouts.spec.unit) == (0.168, "nanomaggy")
        np.testing.assert_allclose(cutouts.images[:], np.moveaxis(IMAGES, 1, -1) * 10**-1.8, rtol=1e-6)


def test_survey_does_not_overrule_the_file(tmp_path):
    write(
        tmp_path / "mine.fits",
        BANDS="griz",
        BUNIT="nJy",
        CDELT1=0.4 / 3600,
        CDELT2=0.4 / 3600,
        CTYPE1="RA---TAN",
        CTYPE2="DEC--TAN",
    )
    refused = run(tmp_path / "mine.fits", tmp_path / "mine.h5", "--survey", "legacy")
    assert refused.exit_code == 1
    assert "expected pixels of 0.262 arcsec, got 0.4: resample them" in refused.stderr
    assert run(tmp_path / "mine.fits", tmp_path / "mine.h5", "--survey", "legacy", "--pixel-scale", 0.4).exit_code == 0
    with open_cutouts(tmp_path / "mine.h5") as cutouts:
        assert (cutouts.spec.pixel_scale, cutouts.spec.extinction_coefficients[0]) == (0.4, 3.214)


def test_extinction_of_sdss_is_said(tmp_path):
    write(tmp_path / "mine.fits", BANDS="griz")
    done = run(tmp_path / "mine.fits", tmp_path / "mine.h5", "--pixel-scale", 0.2)
    assert "Galactic extinction is that of SDSS's bands" in done.stderr
