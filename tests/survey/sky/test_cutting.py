"""Cutouts out of frames: fluxes, positions and noise."""

import bz2
import io

import numpy as np
import pytest

pytest.importorskip("reproject", reason="needs the packages of photoz[sky]")
import sep

from benchmarks.science.real_field import FOLDER
from photoz_survey.sky.cutting import Frame, cut, read_frame
from tests.survey.loopback_archive import DEC, RA, SHAPE, around, draw, frame_wcs

Y, X = np.indices((64, 64))


def centroid(image):
    return (image * X).sum() / image.sum(), (image * Y).sum() / image.sum()


@pytest.mark.parametrize("angle", range(0, 360, 36))
def test_flux_and_position_are_kept(angle):
    ra, dec = around(13.1 + 0.01 * angle, -21.3)
    wcs = frame_wcs(RA, DEC, angle + 0.3, SHAPE, pixel_scale=0.3961)
    found = cut(Frame(draw(wcs, SHAPE, [(ra, dec, 100.0)]), wcs), ra, dec, 64, 0.396)
    assert found.sum() == pytest.approx(100.0, rel=0.005)
    assert centroid(found) == pytest.approx((31.5, 31.5), abs=0.1)


def test_north_is_up_and_east_is_left():
    wcs = frame_wcs(RA, DEC, 130.0, SHAPE)
    for galaxy, (x, y) in ((around(3.96, 0.0), (21.5, 31.5)), (around(0.0, 3.96), (31.5, 41.5))):
        found = cut(Frame(draw(wcs, SHAPE, [(*galaxy, 50.0)]), wcs), RA, DEC, 64, 0.396)
        assert centroid(found) == pytest.approx((x, y), abs=0.1)


@pytest.mark.parametrize(("ra", "dec"), [(RA, DEC + 1.0), (RA + 180.0, -DEC)])
def test_positions_outside_of_the_frame_have_no_pixels(ra, dec):
    wcs = frame_wcs(RA, DEC, 0.0, SHAPE)
    assert np.isnan(cut(Frame(np.ones(SHAPE, np.float32), wcs), ra, dec, 64, 0.396)).all()


@pytest.mark.parametrize("angle", [0.0, 36.0, 90.0, 123.4])
def test_noise_of_resampling_is_as_documented(angle):
    """Pixels are less noisy and correlated, sums over many pixels as noisy as before."""
    rng, shape = np.random.default_rng(0), (1200, 1200)
    wcs = frame_wcs(RA, DEC, angle, shape, pixel_scale=0.3961)
    frame = Frame(rng.standard_normal(shape).astype(np.float32), wcs)
    centres = wcs.wcs_pix2world(rng.uniform(100, 1100, (60, 2)), 0)
    found = np.array([cut(frame, float(ra), float(dec), 64, 0.396) for ra, dec in centres])
    variance = (found**2).mean()
    assert np.sqrt(variance) == pytest.approx(0.87, abs=0.01)
    for beside in ((found[:, 1:], found[:, :-1]), (found[:, :, 1:], found[:, :, :-1])):
        assert 0.10 < (beside[0] * beside[1]).mean() / variance < 0.20
    boxes = found.reshape(60, 8, 8, 8, 8).sum(axis=(2, 4))
    assert boxes.std() / 8 == pytest.approx(1.0, abs=0.02)


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files")
def test_apertures_of_real_frames_keep_their_fluxes():
    """Sources that `sep` finds in the raw r frame, within 2 % in all bands."""
    frames = {}
    for band in "ugriz":
        with bz2.open(FOLDER / f"frame-{band}-002583-2-0136.fits.bz2") as file:
            frames[band] = read_frame(io.BytesIO(file.read()))
    raw = {band: np.ascontiguousarray(frame.pixels) for band, frame in frames.items()}
    sep.set_extract_pixstack(3_000_000)  # a globular cluster is in the field
    sources = sep.extract(raw["r"], 20 * sep.Background(raw["r"]).globalrms, minarea=10)
    ny, nx = raw["r"].shape
    inside = (np.abs(sources["x"] - nx / 2) < nx / 2 - 60) & (np.abs(sources["y"] - ny / 2) < ny / 2 - 60)
    chosen = sources[inside & (sources["flag"] == 0) & (sources["flux"] > 20)]
    for source in np.random.default_rng(1).permutation(chosen)[:20]:
        ra, dec = (float(value) for value in frames["r"].wcs.wcs_pix2world(source["x"], source["y"], 0))
        for band, frame in frames.items():
            at = [[float(value)] for value in frame.wcs.wcs_world2pix(ra, dec, 0)]
            expected, _, _ = sep.sum_circle(raw[band], *at, 8.0)
            found, _, _ = sep.sum_circle(np.ascontiguousarray(cut(frame, ra, dec, 64, 0.396)), [31.5], [31.5], 8.0)
            assert found == pytest.approx(expected, rel=0.02), (band, ra, dec)
