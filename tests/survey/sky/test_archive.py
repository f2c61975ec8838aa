"""The cache of an archive's files, and cutouts out of its frames: fluxes, positions and noise."""

import bz2
import io
import os
import re
import threading
from contextlib import nullcontext, suppress

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")
import sep
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from benchmarks.science.real_field import FOLDER
from photoz.errors import InvalidDataset
from photoz.io.frame import Frame, cut, tangential_grid
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.cutting import read_frame
from photoz_survey.sky.session import TIMEOUT, ArchiveError, Missing, Session, Unreachable
from tests.survey.loopback_archive import DEC, RA, SHAPE, around, draw, frame_wcs

FITS = b"".join(card.ljust(80) for card in (b"SIMPLE  = T", b"BITPIX  = -32", b"NAXIS   =  2")).ljust(2880)


@pytest.fixture
def fetch(archive, tmp_path):
    """Return a function that opens a file of an archive, where requests have faults, and returns its content."""

    def fetch(*faults, content=FITS, name="a.fits", files=None, path="/a", host=()):
        archive.files[path], archive.faults = content, {path: list(faults), "": list(host)}
        with (files or FileCache(tmp_path, 10**9)).open(archive.url + path, name) as file:
            return file.read()

    return fetch


def test_a_download_that_breaks_off_is_made_again_and_then_kept(fetch, archive, clock, tmp_path):
    (tmp_path / ".a.fits.part").write_bytes(b"left by a process that was killed")
    assert fetch("cut") == FITS
    assert archive.asked["/a"] == 2
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.fits", FITS)]
    assert fetch("404") == FITS  # it is not asked for again
    clock.slept.clear()
    assert fetch("500", "500", name="b.fits") == FITS
    assert fetch("429 Retry-After: 3", "503 Retry-After: 3600", name="c.fits") == FITS
    assert fetch("reset", name="d.fits") == FITS
    assert [seconds for seconds in clock.slept if seconds] == [4, 3, 5]


NO_FITS = "expected an image in a FITS file, got {} bytes: '"


@pytest.mark.parametrize(
    ("fault", "content", "n_asked", "message"),
    [
        ("404", FITS, 1, "404, not found"),
        ("403", FITS, 1, "403 'Forbidden': 'not now'"),
        ("cut", FITS, 2, "IncompleteRead(1440 bytes read, 1440 more expected)"),
        ("500", FITS, 3, "500 'Internal Server Error': 'not now'"),
        ("503 Retry-After: 9", FITS, 6, "503 'Service Unavailable', which asks to wait for '9' s: 'not now'"),
        ("302 Location: http://127.0.0.1:9/secret", FITS, 1, "redirects to another host, 'http://127.0.0.1:9/secret'"),
        ("302 Location: /a", FITS, 6, "it redirects more than 5 times"),
        ("", b"<html>We are <b>closed</b>.\x1b[2J</html>", 2, NO_FITS.format(38) + "We are closed .\\x1b[2J'"),
        *[("", content, 2, NO_FITS.format(f"{len(content):,}")) for content in (FITS + b"x", bytes(2880), b"")],
        ("", FITS.replace(b"=  2", b"=  9"), 2, NO_FITS.format("2,880")),
    ],
)
def test_a_file_that_does_not_come_is_an_error(fetch, archive, tmp_path, fault, content, n_asked, message):
    with pytest.raises(ArchiveError, match=rf"http://127\.0\.0\.1:\d+/a: .*{re.escape(message)}"):
        fetch(*[fault] * 9, content=content)
    assert archive.asked["/a"] == n_asked
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Please log in", "expected an image in a FITS file, got 13 bytes: 'Please log in'"),
        (bz2.compress(FITS)[:-9], "ended before the end-of-stream marker"),
        (b"BZh9" + bytes(90), "Invalid data stream"),
        (bz2.compress(FITS + bytes(10**5)), "unpacked, it has more than 100,000 bytes"),
        (bytes(100_001), "the answer has more than 100,000 bytes"),
    ],
)
def test_packed_files_are_limited_too(fetch, monkeypatch, content, message):
    monkeypatch.setattr("photoz_survey.sky.archive.MAX_BYTES", 100_000)
    monkeypatch.setattr(Session.__init__, "__defaults__", (TIMEOUT, 100_000))
    with pytest.raises(ArchiveError, match=message):
        fetch(content=content, path="/a.bz2")


def test_an_answer_without_end_is_given_up(archive, tmp_path):
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        with suppress(ConnectionError):
            while True:
                handler.wfile.write(bytes(2**20))

    for path, faults in (("/a", [drip]), ("/b", ["302 Location: /a", drip])):
        archive.faults = {path: faults[:1], "/a": faults[-1:]}
        with pytest.raises(ArchiveError, match="the answer has more than 67,108,864 bytes"):
            FileCache(tmp_path, 10**9).open(archive.url + path, "a")


def test_a_host_that_is_down_is_one_failure_and_said_soon(fetch, archive, clock, tmp_path):
    begin = clock.now
    for url, message in [
        (archive.url, r"127\.0\.0\.1:\d+ cannot be reached: 503 'Service Unavailable': 'not now'"),
        ("http://127.0.0.1:9", "127.0.0.1:9 cannot be reached: Failed to establish a new connection"),
    ]:
        archive.faults = {"": ["503"] * 99}
        with pytest.raises(Unreachable, match=message):
            FileCache(tmp_path, 10**9).open(f"{url}/a", "a.fits")
        assert clock.now - begin <= 15
    assert fetch(*["503"] * 3, host=["404"]) == FITS  # it is this file alone that failed


def test_an_answer_that_stalls_is_given_up(archive, tmp_path):
    stop = threading.Event()
    archive.faults = {"": [lambda _: stop.wait(60)] * 9}
    with pytest.raises(Unreachable, match="cannot be reached: .*Read timed out"):
        FileCache(tmp_path, 10**9, timeout=(60.0, 0.1)).open(f"{archive.url}/a", "a")
    stop.set()


@pytest.mark.parametrize(("seconds", "is_slow"), [(10.28, False), (10.29, True)])
def test_an_answer_that_drips_is_given_up(fetch, clock, monkeypatch, seconds, is_slow):
    looks, monotonic = threading.Semaphore(0), clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: looks.release() or monotonic())

    def drip(handler):
        while looks.acquire(blocking=False):
            pass
        handler.answer(200, b"", {"Content-Length": str(len(FITS))})
        looks.acquire()  # the client has the headers, and begins to measure
        clock.sleep(seconds)
        return handler.wfile.write(FITS)

    slow = pytest.raises(ArchiveError, match="/a: it came at less than 10,000 bytes/s")
    with slow if is_slow else nullcontext():  # 2.88 kB in the 0.288 s after those that are free
        assert fetch(drip, drip) == FITS


def test_what_is_missing_is_asked_for_once_in_a_run(fetch, archive, tmp_path):
    files = FileCache(tmp_path, 10**9)
    for _ in range(2):
        with pytest.raises(Missing, match="/a: 404, not found"):
            fetch("404", files=files)
    assert archive.asked["/a"] == 1
    with pytest.raises(Missing):
        fetch(files=FileCache(tmp_path, 10**9, offline=True))
    assert fetch(files=FileCache(tmp_path, 10**9, begun=files.begun + 60)) == FITS


def test_requests_are_no_more_than_allowed_and_the_oldest_files_are_removed(fetch, clock, tmp_path):
    files = FileCache(tmp_path, max_bytes=2 * len(FITS), interval=0.25)
    for number in (1, 2):  # the answer to the query of a run, which may take days, and one that is too old to be used
        (tmp_path / f"catalogue-{number}.csv").write_bytes(FITS)
    os.utime(tmp_path / "catalogue-2.csv", (0, 0))
    for name in "ugurizr":
        assert fetch(name=f"{name}.fits", files=files) == FITS
        clock.now += 0.0625
    assert clock.slept == [0, 0.1875, 0.125, 0.1875, 0.1875, 0.1875]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalogue-1.csv", "r.fits", "z.fits"]
    fetch(name="y.fits", files=FileCache(tmp_path, max_bytes=2 * len(FITS)))  # by a process that adds no more than this
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalogue-1.csv", "r.fits", "y.fits"]
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
