"""Galaxies drawn into frames, and the reading of frames: simulated ones, and SDSS's where they are there."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.science.real_pixels import FOLDER, ONCE, TWICE
from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, measure_border
from photoz.io.frame import Frame
from photoz.io.reader import open_cutouts
from training import frames
from training.detect import background_noise
from training.galaxies import USUAL, draw_galaxies
from training.imaging_surveys import read_survey
from training.observed import find_fields, read_observed
from training.psf import psf_of_stars

SHAPE, NOISE, SIGMA = (300, 340), 0.02, 1.4  # of the simulated frames; nanomaggies; of the PSF, pixels
BRIGHT = (220, 140)  # x and y of a bright star
ZERO_POINT = 25.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a field of Legacy's g, r and z: stars in noise, turned by 30 degrees."""
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    y, x = np.indices(SHAPE)
    stars = [(*BRIGHT, 3000.0), *((40 + 52 * i, 30 + 60 * j, 60.0) for i in range(6) for j in range(5))]
    angle = np.radians(30.0)
    turn = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 0.262 / 3600
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": 60.0})
    header.update({"CRPIX1": 170.0, "CRPIX2": 150.0, "CD1_1": turn[0, 0], "CD1_2": turn[0, 1]})
    header.update({"CD2_1": turn[1, 0], "CD2_2": turn[1, 1], "MAGZERO": ZERO_POINT})
    for band in "grz":
        image = NOISE * rng.standard_normal(SHAPE)
        for column, row, flux in stars:
            image += flux / (2 * np.pi * SIGMA**2) * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * SIGMA**2))
        in_counts = image * 10.0 ** (0.4 * (ZERO_POINT - 22.5))
        fits.PrimaryHDU(in_counts.astype(">f4"), header).writeto(folder / f"deep-1-{band}.fits")
    fits.PrimaryHDU(in_counts.astype(">f4"), header).writeto(folder / "deep-2-g.fits")
    return folder


SPEC = read_survey("legacy").images(("g", "r", "z"), 32)


@pytest.fixture(scope="module")
def field(folder):
    return frames.read_field(find_fields(folder, SPEC.bands)[0]["deep-1"], SPEC)


def test_fields_are_found_by_the_names_of_their_frames(folder, tmp_path):
    complete, incomplete = find_fields(folder, ("g", "r", "z"))
    assert {field: [path.name for path in paths] for field, paths in complete.items()} == {
        "deep-1": ["deep-1-g.fits", "deep-1-r.fits", "deep-1-z.fits"]
    }
    assert incomplete == ["deep-2"]
    with pytest.raises(InvalidDataset, match=r"has no field with frames in g,i: expected SDSS's frame-r-000094-3-0100"):
        find_fields(folder, ("g", "i"))
    for name, content, message in (
        (
            "a-r.fits",
            fits.PrimaryHDU(np.ones((40, 40))),
            "expected a unit of flux in BUNIT, or a zero point, such as MAGZERO",
        ),
        ("c-r.fits", fits.PrimaryHDU(np.ones((9, 9)), fits.Header({"BSOFTEN": 3.0})), "on an asinh scale"),
        ("b-r.fits", fits.PrimaryHDU(), "cannot be read as a frame"),
        ("fpC-000094-r3-0100.fit", fits.PrimaryHDU(np.ones((40, 40))), "needs the files psField and tsField of its fi"),
    ):
        content.writeto(tmp_path / name)
        with pytest.raises(InvalidDataset, match=message):
            read_observed(tmp_path / name)


def test_psf_of_stars_is_theirs(folder):
    observed = read_observed(folder / "deep-1-r.fits")
    assert observed.electrons is None
    assert background_noise(observed.frame.pixels) == pytest.approx(NOISE, rel=0.05)
    psf = observed.psf.at(10.0, 20.0)
    y, x = np.indices(psf.shape) - (psf.shape[0] - 1) / 2
    expected = np.exp(-(x**2 + y**2) / (2 * SIGMA**2))
    np.testing.assert_allclose(psf, expected / expected.sum(), atol=2e-3)
    assert psf.sum() == pytest.approx(1.0)
    with pytest.raises(InvalidDataset, match="found 0 stars for the PSF, expected 5 or more"):
        psf_of_stars(NOISE * np.random.default_rng(0).standard_normal((100, 100)))


def test_places_are_clear_of_bright_sources_and_edges(field):
    x, y = field.places.T
    side = SPEC.size * SPEC.pixel_scale / field.middle.pixel_scale
    assert side == pytest.approx(32, rel=0.01)
    assert np.hypot(x - BRIGHT[0], y - BRIGHT[1]).min() > 0.5 * side
    assert min(x.min(), y.min(), SHAPE[1] - 1 - x.max(), SHAPE[0] - 1 - y.max()) >= side / np.sqrt(2)
    assert 0.1 < len(x) / field.middle.pixels.size < 0.7
    holes = field.middle.pixels.copy()
    holes[:, 100:130] = np.nan
    x, _ = frames.open_places(Frame(holes, field.middle.wcs), SPEC).T
    assert len(x)
    assert np.abs(x - 114.5).min() > 14.5 + side / np.sqrt(2)
    empty = Frame(NOISE * np.random.default_rng(0).standard_normal(SHAPE), field.middle.wcs)
    assert len(frames.open_places(empty, SPEC)) > 0.5 * holes.size
    dark = Frame(np.full(SHAPE, NOISE * 50) + field.middle.pixels, field.middle.wcs)
    assert len(frames.open_places(dark, SPEC)) == 0


def test_galaxies_are_drawn_with_their_flux_at_their_place_in_the_noise_of_the_frame(field, catalogue):
    rng, n = np.random.default_rng(1), 12
    galaxies = draw_galaxies(np.full((n, 3), 200.0), SPEC, rng, USUAL, read_survey("legacy"))
    offset = np.tile([5.0, -3.0], (n, 1))
    small = replace(galaxies, offset=offset, half_light_radius=np.full(n, 0.3), axis_ratio=np.full(n, 1.0))
    on_noise = field.with_noise(rng)
    images, columns = frames.draw_into(on_noise, small, SPEC, read_survey("legacy"), rng)
    assert images.shape == (n, *SPEC.shape)
    assert columns.keys() >= {"frame_ra", "frame_dec", "half_light_radius"}
    y, x = np.indices(images.shape[1:3])
    light = np.where(images > 0.3, images, 0.0)
    total = light.sum(axis=(1, 2))
    for positions, expected in ((x, 5.0), (y, -3.0)):
        centre = (light * positions[..., None]).sum(axis=(1, 2)) / total - (SPEC.size - 1) / 2
        np.testing.assert_allclose(centre, expected, atol=0.1)
    np.testing.assert_allclose(np.median(images.sum(axis=(1, 2)), axis=0), 200.0, rtol=0.03)
    faint = replace(galaxies, fluxes=np.full((n, 3), 1e-3))
    noise = np.median(measure_border(frames.draw_into(on_noise, faint, SPEC, read_survey("legacy"), rng)[0]).noise)
    assert noise == pytest.approx(0.873 * NOISE, rel=0.1)  # resampled, as by `photoz sky`
    places = field.middle.wcs.all_world2pix(columns["frame_ra"], columns["frame_dec"], 0)
    distance = np.abs(np.stack(places, axis=1)[:, None] - field.places).max(axis=2).min(axis=1)
    assert (distance <= 0.5 + 1e-6).all()


def test_sample_in_frames_is_the_same_with_any_number_of_workers(folder, tmp_path, run_cli):
    options = ("--frames", folder, "--survey", "legacy", "--bands", "grz", "--size", 16, "--limit", 66)
    catalogue = tmp_path / "list.csv"
    catalogue.write_text("g,r,z,z_spec\n" + "18.5,17.8,17.2,0.1\n" * 66)
    for workers in (1, 2):
        where = (tmp_path / f"{workers}.h5", "--catalogue", catalogue)
        output = run_cli("sample", *where, *options, "--workers", workers)
    assert f"{folder}: 1 fields in g,r,z\n  left out: deep-2, without all of these bands\n" in output
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
    with open_cutouts(tmp_path / "1.h5") as cutouts:
        assert cutouts.provenance.endswith("drawn into frames of 1 fields")
        assert np.isfinite(cutouts.images[:]).all()
        assert len(np.unique(cutouts.column("frame_ra"))) == 66


@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files")
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_frames_of_both_pipelines_are_read_with_psf_and_gain():
    """Noise and gain are those of each band, and bands agree about the sky; the PSF of a bad night is wide."""
    bands = SDSS_IMAGES.bands
    fields = find_fields(FOLDER / TWICE, bands)[0]
    assert fields.keys() == {"004192-4-0300", "006377-4-0399"}
    for paths, noise in zip(fields.values(), ([0.050, 0.028], [0.054, 0.027]), strict=True):
        u, r = (read_observed(paths[index]) for index in (0, 2))
        assert [background_noise(band.frame.pixels) for band in (u, r)] == pytest.approx(noise, rel=0.05)
        assert [u.electrons, r.electrons] == pytest.approx([157, 937], rel=0.03)
        assert abs(np.median(r.frame.pixels)) < 0.3 * noise[1]
        centre = u.frame.wcs.all_pix2world(1000.0, 700.0, 0)
        assert np.hypot(*(r.frame.wcs.all_world2pix(*centre, 0) - np.array([1000.0, 700.0]))) < 12
    complete, incomplete = find_fields(FOLDER / ONCE, bands)
    assert (list(complete), incomplete) == (["002583-2-0136"], ["001000-1-0100"])
    with_psfield = read_observed(FOLDER / ONCE / "frame-r-001000-1-0100.fits.bz2")
    assert with_psfield.electrons == pytest.approx(900, rel=0.1)
    psf = with_psfield.psf.at(1000.0, 700.0)
    assert 2.0 * np.sqrt((psf > psf.max() / 2).sum() / np.pi) * 0.396 == pytest.approx(2.5, abs=0.15)  # a bad night
