"""The cache of an archive's files: downloads that fail, limits on requests and size."""

import time

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")


from photoz_survey.sky.archive import ArchiveError, FileCache
from tests.survey.loopback_archive import DEC, RA, SHAPE, frame_bytes, frame_path, frame_wcs


def test_an_answer_that_stalls_is_given_up(archive, tmp_path):
    path = frame_path("r", 100)
    archive.faults[path] = ["stall"]
    files = FileCache(tmp_path, 10**9, timeout=(1.0, 0.5))
    with files.open(f"{archive.url}{path}", "r.fits") as file:
        assert len(file.read()) > SHAPE[0] * SHAPE[1] * 4
    assert archive.asked[path] == 2


def test_an_answer_that_drips_is_given_up(archive, tmp_path, monkeypatch):
    path = frame_path("r", 100)
    archive.faults[path] = ["slow"] * 4
    monkeypatch.setattr("photoz_survey.sky.archive.SLOWEST", 10**9)
    monkeypatch.setattr("photoz_survey.sky.archive.ATTEMPTS", 2)
    with pytest.raises(ArchiveError, match=r"r-000094-3-0100\.fits\.bz2: it came at less than 1000000000 bytes/s"):
        FileCache(tmp_path, 10**9, timeout=(1.0, 0.2)).open(f"{archive.url}{path}", "r.fits")
    assert not list(tmp_path.glob("[!.]*"))


def test_a_page_in_place_of_a_frame_is_quoted(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("photoz_survey.sky.archive.ATTEMPTS", 1)
    archive.files["/closed.fits"] = b"<html>We are closed.</html>"
    with pytest.raises(ArchiveError, match="expected a FITS file, got 27 bytes that begin with b'<html>We are"):
        FileCache(tmp_path, 10**9).open(f"{archive.url}/closed.fits", "closed.fits")


def test_requests_are_no_more_than_allowed(archive, tmp_path):
    files = FileCache(tmp_path, 10**9, interval=0.2)
    start = time.monotonic()
    for band in "ugriz":
        files.open(f"{archive.url}{frame_path(band, 100)}", f"{band}.fits").close()
    assert time.monotonic() - start >= 0.8


def test_the_oldest_files_are_removed(archive, tmp_path):
    size = len(frame_bytes(np.zeros(SHAPE, np.float32), frame_wcs(RA, DEC, 0, SHAPE)))
    files = FileCache(tmp_path, max_bytes=2_000_000)
    for band in "ugriz":
        with files.open(f"{archive.url}{frame_path(band, 100)}", f"{band}.fits") as file:
            assert len(file.read()) > size
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["i.fits", "z.fits"]
    with pytest.raises(ArchiveError, match=r"u\.fits is not in .*, and nothing is downloaded offline"):
        FileCache(tmp_path, 10**9, offline=True).open("http://127.0.0.1:1/u.fits", "u.fits")
