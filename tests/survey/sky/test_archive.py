"""The cache of an archive's files, and cutouts out of its frames: fluxes, positions and noise."""

import bz2
import io
import re
import threading
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")
import sep
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from benchmarks.science.real_field import FOLDER
from photoz.errors import InvalidDataset
from photoz_survey.sky.archive import ArchiveError, FileCache
from photoz_survey.sky.cutting import Frame, cut, read_frame, tangential_grid
from tests.survey.loopback_archive import DEC, RA, SHAPE, around, draw, frame_wcs

FITS = b"SIMPLE  =".ljust(2880)


@pytest.fixture
def fetch(archive, tmp_path):
    """Return a function that opens a file of an archive, where requests have faults, and returns its content."""

    def fetch(*faults, content=FITS, name="a.fits", files=None, path="/a"):
        archive.files[path], archive.faults[path] = content, list(faults)
        with (files or FileCache(tmp_path, 10**9)).open(archive.url + path, name) as file:
            return file.read()

    return fetch


def test_a_download_goes_on_where_it_broke_off(fetch, archive, clock, tmp_path):
    (tmp_path / ".a.fits.part").write_bytes(b"left by a process that was killed")
    assert fetch("cut", "cut", "cut") == FITS
    assert (archive.asked["/a"], archive.sent["/a"], clock.slept) == (4, len(FITS), [0, 1, 0, 2, 0, 4, 0])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.fits", FITS)]
    assert fetch("404") == FITS  # it is not asked for again
    clock.slept.clear()
    assert fetch("500", "500", "reset", name="b.fits") == FITS
    assert (archive.asked["/a"], clock.slept) == (8, [0, 1, 2])
    with pytest.raises(ArchiveError, match="it cannot be unpacked: Invalid data stream"):
        fetch(path="/a.bz2", name="c.fits")


NO_FITS = "expected a FITS file, got {} bytes that begin with b'"


@pytest.mark.parametrize(
    ("fault", "content", "n_asked", "message"),
    [
        ("404", FITS, 1, "404 Not Found"),
        ("cut", FITS, 4, "IncompleteRead(180 bytes read, 180 more expected)"),
        ("500", FITS, 5, "500 Internal Server Error"),
        ("", b"<html>We are closed.</html>", 4, NO_FITS.format(27) + "<html>We are closed.</html>'"),
        *[("", content, 4, NO_FITS.format(len(content))) for content in (FITS + b"x", bytes(2880), b"")],
    ],
)
def test_a_file_that_does_not_come_is_an_error(fetch, archive, tmp_path, fault, content, n_asked, message):
    with pytest.raises(ArchiveError, match=rf"http://127\.0\.0\.1:\d+/a: .*{re.escape(message)}"):
        fetch(*[fault] * 5, content=content)
    assert archive.asked["/a"] == n_asked
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(".a.fits.part", b"")]


def test_an_answer_that_stalls_is_given_up(fetch, archive, clock, tmp_path, monkeypatch):
    files, stop = FileCache(tmp_path, 10**9, timeout=(60.0, 0.1)), threading.Event()
    monkeypatch.setattr(clock, "sleep", lambda seconds: seconds and setattr(files, "timeout", (60.0, 60.0)))
    assert fetch(lambda: stop.wait(60), files=files) == FITS
    stop.set()
    assert archive.asked["/a"] > 1


@pytest.mark.parametrize(("seconds", "is_slow"), [(62.8, False), (62.9, True)])
def test_an_answer_that_drips_is_given_up(fetch, clock, monkeypatch, seconds, is_slow):
    monkeypatch.setattr("photoz_survey.sky.archive.ATTEMPTS", 1)
    slow = pytest.raises(ArchiveError, match="/a: it came at less than 1000 bytes/s")
    with slow if is_slow else nullcontext():  # 2.88 kB in the 2.9 s after the minute that is free
        assert fetch(lambda: clock.sleep(seconds)) == FITS


def test_requests_are_no_more_than_allowed_and_the_oldest_files_are_removed(fetch, clock, tmp_path):
    files = FileCache(tmp_path, max_bytes=2 * len(FITS), interval=0.25)
    for name in "ugurizr":
        assert fetch(name=name, files=files) == FITS
        clock.now += 0.0625
    assert clock.slept == [0, 0.1875, 0.125, 0.1875, 0.1875, 0.1875]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "z"]
    with pytest.raises(ArchiveError, match=r"u is not in .*, and nothing is downloaded offline"):
        FileCache(tmp_path, 10**9, offline=True).open("http://127.0.0.1:1/u", "u")


@pytest.mark.parametrize("angle", range(0, 360, 36))
def test_flux_and_position_are_kept_with_north_up_and_east_left(angle):
    x, y, wcs = 13.1 + 0.01 * angle, -21.3, frame_wcs(RA, DEC, angle + 0.3, SHAPE, pixel_scale=0.3961)
    for east, north, place in ((0.0, 0.0, (31.5, 31.5)), (3.96, 0.0, (21.5, 31.5)), (0.0, 3.96, (31.5, 41.5))):
        galaxy = (*around(x + east, y + north), 100.0)
        image = cut(Frame(draw(wcs, SHAPE, [galaxy]), wcs), *around(x, y), 64, 0.396)
        assert image.sum() == pytest.approx(100.0, rel=0.005)
        row, column = (np.indices(image.shape) * image).sum(axis=(1, 2)) / image.sum()
        assert (column, row) == pytest.approx(place, abs=0.1)


def test_pixels_are_as_large_as_asked():
    np.testing.assert_allclose(3600 * proj_plane_pixel_scales(tangential_grid(RA, DEC, 64, 0.396)), 0.396, rtol=1e-7)


@pytest.mark.parametrize("offset", [0.0, 0.014, -0.014, 1.0, -1.0, 180.0])
def test_pixels_outside_of_the_frame_are_nan(offset):
    ra, dec = (RA, DEC + offset) if offset < 90 else (RA + 180, -DEC)
    frame = Frame(np.ones(SHAPE, np.float32), frame_wcs(RA, DEC, 45.0, SHAPE))
    covered = np.isfinite(found := cut(frame, ra, dec, 64, 0.396))
    np.testing.assert_allclose(found[covered], 1.0, rtol=1e-5)
    assert (covered.any(), covered.all()) == (abs(offset) < 1, offset == 0)


@pytest.mark.parametrize("angle", [0.0, 36.0, 123.4])
def test_noise_of_resampling_is_as_documented(angle):
    rng, wcs = np.random.default_rng(0), frame_wcs(RA, DEC, angle, (1200, 1200), pixel_scale=0.3961)
    frame = Frame(rng.standard_normal((1200, 1200)).astype(np.float32), wcs)
    centres = wcs.wcs_pix2world(rng.uniform(100, 1100, (60, 2)), 0)
    found = np.array([cut(frame, float(ra), float(dec), 64, 0.396) for ra, dec in centres])
    variance = (found**2).mean()
    assert np.sqrt(variance) == pytest.approx(0.87, abs=0.01)
    for beside in ((found[:, 1:], found[:, :-1]), (found[:, :, 1:], found[:, :, :-1])):
        assert 0.10 < (beside[0] * beside[1]).mean() / variance < 0.20
    boxes = found.reshape(60, 8, 8, 8, 8).sum(axis=(2, 4))
    assert boxes.std() / 8 == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("off", [0.0, 100.0])
def test_astrometry_is_that_of_astrans_and_a_header_that_differs_is_refused(off):
    names = ("A", "B", "C", "D", "E", "F", *(f"{kind}{power}" for kind in ("DROW", "DCOL") for power in range(4)))
    numbers = (359.93, 1.1e-4, 2e-7, -0.05, -2e-7, 1.1e-4, 0.03, 0, 0, 0, -0.2, 8e-4, -9e-7, 3e-10)  # spans RA 0
    row = dict(zip((*names, "NODE", "INCL"), (*numbers, 95.0, 0.0), strict=True))
    table = fits.BinTableHDU.from_columns([fits.Column(name, "D", array=[value]) for name, value in row.items()])
    header = WCS(naxis=2)  # x along Dec, y along RA
    header.wcs.ctype, header.wcs.crval, header.wcs.crpix = ("RA---TAN", "DEC--TAN"), (0.0, 0.0), (456.2, 636 + off)
    header.wcs.cd = [[2e-7, 1.1e-4], [1.1e-4, -2e-7]]
    file, pixels = io.BytesIO(), np.zeros((1489, 2048), np.float32)
    fits.HDUList([fits.PrimaryHDU(pixels, header.to_header()), *[fits.ImageHDU()] * 2, table]).writeto(file)
    file.seek(0)
    if off:
        with pytest.raises(InvalidDataset, match=r"in the header and in asTrans, differ by up to 100\.\d pixels"):
            read_frame(file)
        return
    x, y = np.array([0.0, 700.0, 2047.0]), np.array([0.0, 1488.0, 600.0])
    column = x + 0.5 - 0.2 + 8e-4 * (x + 0.5) - 9e-7 * (x + 0.5) ** 2 + 3e-10 * (x + 0.5) ** 3
    expected = (359.93 + 1.1e-4 * (y + 0.53) + 2e-7 * column) % 360, -0.05 - 2e-7 * (y + 0.53) + 1.1e-4 * column
    np.testing.assert_allclose(read_frame(file).wcs.all_pix2world(x, y, 0), expected, rtol=0, atol=3e-7)  # 0.003 pixels


@pytest.mark.acceptance
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files")
@pytest.mark.parametrize("band", "ugriz")
def test_apertures_of_real_frames_keep_their_fluxes(band):
    with bz2.open(FOLDER / f"frame-{band}-002583-2-0136.fits.bz2") as file:
        frame = read_frame(io.BytesIO(file.read()))
    raw = np.ascontiguousarray(frame.pixels)
    sep.set_extract_pixstack(3_000_000)  # a globular cluster is in the field
    sources = sep.extract(raw, 20 * sep.Background(raw).globalrms, minarea=10)
    (ny, nx), x, y = raw.shape, sources["x"], sources["y"]
    inside = (np.abs(x - nx / 2) < nx / 2 - 60) & (np.abs(y - ny / 2) < ny / 2 - 60)
    chosen = sources[inside & (sources["flag"] == 0) & (sources["flux"] > 20)]
    for source in np.random.default_rng(1).permutation(chosen)[:20]:
        ra, dec = (float(value) for value in frame.wcs.all_pix2world(source["x"], source["y"], 0))
        expected, _, _ = sep.sum_circle(raw, [source["x"]], [source["y"]], 8.0)
        found, _, _ = sep.sum_circle(np.ascontiguousarray(cut(frame, ra, dec, 64, 0.396)), [31.5], [31.5], 8.0)
        assert found == pytest.approx(expected, rel=0.02), (ra, dec)
