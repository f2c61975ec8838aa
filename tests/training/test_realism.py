"""Comparison of the simulation with SDSS files, which the tests write, and with real ones if they exist."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from benchmarks.science import realism
from benchmarks.science.sdss_files import (
    BANDS,
    block_noise,
    correlation,
    double_gaussian,
    fwhm,
    is_sky,
    kl_psf,
    read_field,
    read_image,
)
from photoz.io.reader import open_cutouts
from training.imaging_surveys import sdss

SIGMA, WIDE, AMPLITUDE = 1.5, 3.0, 0.2  # of the PSF in the files
MIDDLE_ROW = 0.7445  # of a field, in units of 1,000 pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One psField file and one rotated image of noise."""
    _write_ps_field(tmp_path / "psField-000001-1-0001.fit")
    turn, scale = np.radians(82.0), 3 * 0.396 / 3600.0
    header = fits.Header()
    header["CD1_1"] = header["CD2_2"] = scale * np.cos(turn)
    header["CD2_1"], header["CD1_2"] = scale * np.sin(turn), -scale * np.sin(turn)
    noise = np.random.default_rng(0).normal(0.0, 0.02, (200, 200)).astype(np.float32)
    fits.writeto(tmp_path / "reprojected_sdss_r.fits", noise, header)
    return tmp_path


def _write_ps_field(path: Path) -> None:
    """Write a PSF of a narrow Gaussian and `row` times a wide one; noise 121 counts^2, 0.005 nanomaggies per count."""
    constant, rising = np.zeros((2, 5, 5), dtype=np.float32)
    constant[0, 0], rising[1, 0] = 1.0, AMPLITUDE / MIDDLE_ROW
    images = [double_gaussian(sigma, 1.0, 0.0).ravel().astype(np.float32) for sigma in (SIGMA, WIDE)]
    components = fits.BinTableHDU.from_columns(
        [
            fits.Column("c", "25E", dim="(5,5)", array=np.stack([constant, rising])),
            fits.Column("RROWS", "2601E", array=np.stack(images)),
            *(fits.Column(name, "1J", array=np.full(2, 3)) for name in ("nrow_b", "ncol_b")),
            *(fits.Column(name, "1J", array=np.full(2, 51)) for name in ("RNROW", "RNCOL")),
        ]
    )
    values = {"psf_sigma1_2G": SIGMA, "psf_sigma2_2G": WIDE, "psf_b_2G": AMPLITUDE}
    values |= {"gain": 4.0, "sky": 400.0, "dark_variance": 21.0}
    field = fits.BinTableHDU.from_columns(
        [fits.Column(name, "5E", array=np.full((1, 5), value)) for name, value in values.items()]
    )
    flux20 = fits.BinTableHDU.from_columns([fits.Column("flux20", "1E", array=np.full(5, 2000.0))])
    fits.HDUList([fits.PrimaryHDU(), *(components.copy() for _ in BANDS), field, flux20]).writeto(path)


def test_ps_field_is_read_with_its_calibration(folder: Path) -> None:
    field = read_field(folder / "psField-000001-1-0001.fit")
    np.testing.assert_allclose(field.electrons, 4.0 / 0.005)
    np.testing.assert_allclose(field.sky_sigma, 11.0 * 0.005)
    np.testing.assert_allclose(field.sigma_ratio, 2.0)
    np.testing.assert_allclose(field.amplitude_ratio, AMPLITUDE)
    np.testing.assert_allclose(field.fwhm_image, field.fwhm_model, rtol=1e-3)
    assert np.isnan(field.pixel_scale).all()


def test_calibration_of_photo_obj_takes_precedence(folder: Path) -> None:
    columns = {"NMGYPERCOUNT": 0.01, "PIXSCALE": 0.3961}
    table = [fits.Column(name, "5E", array=np.full((3, 5), value)) for name, value in columns.items()]
    fits.BinTableHDU.from_columns(table).writeto(folder / "photoObj-000001-1-0001.fits")
    field = read_field(folder / "psField-000001-1-0001.fit")
    np.testing.assert_allclose(field.electrons, 400.0, rtol=1e-6)
    np.testing.assert_allclose(field.sky_sigma, 0.11, rtol=1e-6)
    np.testing.assert_allclose(field.pixel_scale, 0.3961, rtol=1e-6)


def test_psf_is_that_of_the_middle_of_the_field(folder: Path) -> None:
    with fits.open(folder / "psField-000001-1-0001.fit") as hdus:
        np.testing.assert_allclose(kl_psf(hdus[3].data), double_gaussian(SIGMA, WIDE, AMPLITUDE), atol=1e-6)


@pytest.mark.parametrize("sigma", [1.2, 1.6, 2.5])
def test_fwhm_of_a_gaussian(sigma: float) -> None:
    assert fwhm(double_gaussian(sigma, 1.0, 0.0)) == pytest.approx(2.3548 * sigma, rel=5e-3)


def test_white_noise_does_not_depend_on_block_size() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.05, (600, 600))
    for n, bar in ((1, 0.01), (3, 0.02), (6, 0.04)):
        assert block_noise(noise, n) * n == pytest.approx(0.05, rel=bar)
    assert abs(correlation(noise)) < 0.01
    assert np.isnan(block_noise(noise[:20, :20], 6))


def test_resampled_noise_is_correlated() -> None:
    noise = np.random.default_rng(2).normal(0.0, 0.05, (1200, 1200))
    resampled = ndimage.uniform_filter(noise, 2)
    assert block_noise(resampled, 1) == pytest.approx(0.025, rel=0.02)
    assert block_noise(resampled, 12) * 12 == pytest.approx(0.05, rel=0.08)
    assert correlation(resampled) == pytest.approx(0.5, abs=0.01)


def test_sky_excludes_sources_and_empty_pixels() -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(0.0, 0.05, (300, 300))
    for y, x in rng.integers(30, 270, (20, 2)):
        image[y - 25 : y + 26, x - 25 : x + 26] += double_gaussian(3.0, 6.0, 0.1)
    image[:, :10] = 0.0
    sky = is_sky(image, 0.396)
    assert not sky[:, :10].any()
    assert sky.mean() > 0.5
    assert image.std() > 0.1
    assert block_noise(np.where(sky, image, np.nan), 1) == pytest.approx(0.05, rel=0.03)


def test_pixel_scale_of_a_rotated_image(folder: Path) -> None:
    assert read_image(folder / "reprojected_sdss_r.fits")[1] == pytest.approx(1.188)


def test_measured_conditions_are_those_of_the_simulation(sample_file: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        drawn = realism.measure_drawing(cutouts.images[:])
    meant = [sdss().observations[band] for band in BANDS]
    np.testing.assert_allclose(drawn.electrons, [band.electrons for band in meant], rtol=0.02)
    np.testing.assert_allclose(drawn.sky_sigma, [band.sky_sigma for band in meant], rtol=0.05)
    # The pixel, of variance 1/12, is folded in after the optics.
    widths = np.hypot([band.fwhm for band in meant], 2.3548 * 0.396 / np.sqrt(12.0))
    np.testing.assert_allclose(drawn.fwhm_image, widths, rtol=0.01)


def test_table_marks_values_outside_the_range_of_the_files(folder: Path) -> None:
    field = read_field(folder / "psField-000001-1-0001.fit")
    drawn = replace(field, electrons=1.16 * field.electrons, sky_sigma=0.9 * field.sky_sigma)
    lines = [line for line in realism.conditions_table({"one": field}, drawn) if "**drawn**" in line]
    assert [line.count("(16% above)") for line in lines] == [0, 0, 0, 0, 5, 0, 0]
    assert [line.count("(10% below)") for line in lines] == [0, 0, 0, 0, 0, 5, 0]


def test_main_prints_all_tables(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realism, "N_FLUX", 3)
    monkeypatch.setattr(realism, "STAMPS", 4)
    realism.main([str(folder)])
    printed = capsys.readouterr().out
    assert "| electrons per nanomaggy: psField-000001-1-0001 | 800 |" in printed
    image = next(line for line in printed.splitlines() if "reprojected_sdss_r, 1.19 arcsec" in line)
    assert float(image.split("|")[3]) == pytest.approx(3 * 0.02, rel=0.03)
    for label in ("cutout / GalSim's", "all light / catalogue"):
        worst = next(line for line in printed.splitlines() if label in line).split("|")[2:-1]
        assert max(float(percent) for percent in worst) < 0.1


def test_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"no psField.* in {tmp_path}"):
        realism.main([str(tmp_path)])


@pytest.mark.skipif(not realism.FOLDER.is_dir(), reason="the SDSS files do not exist")
def test_noise_of_a_real_frame() -> None:
    """The noise of the r frame's pixels is that of its sky, gain and dark variance."""
    (frame,) = realism.FOLDER.glob("frame-r-001000-1-0100.fits*")
    image, scale = read_image(frame)
    with fits.open(frame) as hdus, fits.open(realism.FOLDER / "psField-001000-1-0100.fit") as field:
        gain, dark = (field[6].data[name][0, 2] for name in ("gain", "dark_variance"))
        expected = np.median(hdus[1].data) * np.sqrt(np.median(hdus[2].data["ALLSKY"]) / gain + dark)
    measured = block_noise(np.where(is_sky(image, scale), image, np.nan).astype(np.float64), 1)
    assert scale == pytest.approx(0.396, rel=1e-3)
    assert measured == pytest.approx(expected, rel=0.05)
