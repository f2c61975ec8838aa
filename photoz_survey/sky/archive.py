"""FITS files of an archive on this machine: each is downloaded once, unpacked, and kept as long as there is room."""

import bz2
import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from photoz import __version__
from photoz.errors import PhotozError, reason

# Times that a file is asked for whose content does not arrive whole; requests without an answer are repeated as well.
ATTEMPTS = 4

TIMEOUT = (10.0, 60.0)  # seconds until a connection, and between two pieces of an answer

# Bytes a second below which an answer is given up, after the second of these times.
SLOWEST = 1000

# Files are removed when so much of the cache's size has been added.
CHECKED_AFTER = 0.01

USER_AGENT = f"photoz/{__version__}"

_PIECE = 2**18
_FITS, _FITS_BLOCK = b"SIMPLE  =", 2880


class ArchiveError(PhotozError):
    """What cannot be had from an archive."""


class Incomplete(Exception):
    """An answer that ended too early, or took too long."""


def session() -> requests.Session:
    """Return a session that waits and asks again when an archive is busy or out of reach."""
    made = requests.Session()
    made.headers["User-Agent"] = USER_AGENT
    busy = (429, 500, 502, 503, 504)
    retry = Retry(ATTEMPTS, backoff_factor=0.5, status_forcelist=busy, allowed_methods=None, raise_on_status=False)
    for scheme in ("http://", "https://"):
        made.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
    return made


def explain(error: Exception) -> str:
    """Say why a request failed, without the addresses that the packages below repeat."""
    cause = getattr(error.args[0] if error.args else None, "reason", None)  # of urllib3's MaxRetryError
    return reason(error) if cause is None else str(cause).partition("): ")[2] or reason(cause)


@dataclass
class FileCache:
    """The unpacked FITS files of an archive, in a folder that several processes may use.

    Parameters
    ----------
    folder : Path
        It is made when it is needed.
    max_bytes : int
        The files that were used last are kept, up to so much.
    offline : bool
        Use what is there alone.
    interval : float
        Seconds from one request of this process to the next, at least.
    timeout : tuple of float
        As `TIMEOUT`.
    """

    folder: Path
    max_bytes: int
    offline: bool = False
    interval: float = 0.0
    timeout: tuple[float, float] = TIMEOUT
    _session: requests.Session | None = None
    _next: float = 0.0  # when the next request may be made
    _added: int = 0  # bytes since files were last removed

    def open(self, url: str, name: str) -> BinaryIO:
        """Open the file at a URL, called `name` here, unpacked if the URL ends in .bz2.

        Raises `ArchiveError` if it cannot be had.
        """
        kept = self.folder / name
        while True:
            with contextlib.suppress(FileNotFoundError):
                file = kept.open("rb")
                os.utime(file.fileno())
                return file
            if self.offline:
                raise ArchiveError(f"{name} is not in {self.folder}, and nothing is downloaded offline")
            self._fetch(url, kept)
            if self._added > CHECKED_AFTER * self.max_bytes:  # each look is at all files
                self._evict(kept)
                self._added = 0

    def _fetch(self, url: str, kept: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f".{kept.name}.part")
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may download the same
            if kept.exists():
                return
            file.truncate(0)  # what a killed process left
            try:
                self._added += file.write(self._download(url))
                file.flush()
                part.replace(kept)
            except BaseException:
                file.truncate(0)
                raise

    def _download(self, url: str) -> bytes:
        """Return a FITS file, asked for again, from where it broke off, as long as it is not whole."""
        self._session = self._session or session()
        download = _Download(url)
        for left in reversed(range(ATTEMPTS)):
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + self.interval
            try:
                download.go_on(self._session, self.timeout)
                return download.unpacked()
            except (requests.RequestException, HTTPError, Incomplete) as error:
                if not left:
                    raise ArchiveError(f"{url}: {explain(error)}") from error
            time.sleep(0.5 * 2 ** (ATTEMPTS - left))
        raise AssertionError("the last attempt returns or raises")

    def _evict(self, used: Path) -> None:
        """Remove the files that were used the longest time ago until the others fit."""
        files = [(path.stat(), path) for path in self.folder.glob("[!.]*")]
        left = sum(found.st_size for found, _ in files)
        for found, path in sorted(files, key=lambda one: one[0].st_mtime):
            if left <= self.max_bytes:
                return
            if path != used:
                path.unlink(missing_ok=True)
                left -= found.st_size


class _Download:
    """A file on its way."""

    def __init__(self, url: str) -> None:
        self._url, self._content, self._etag = url, bytearray(), ""

    def go_on(self, session: requests.Session, timeout: tuple[float, float]) -> None:
        """Receive the rest if the archive says that the file is still the same, or all of it."""
        headers = {"Accept-Encoding": "identity"}
        if self._content and self._etag:
            headers |= {"Range": f"bytes={len(self._content)}-", "If-Range": self._etag}
        began = time.monotonic()
        with session.get(self._url, headers=headers, stream=True, timeout=timeout) as answer:
            if not answer.ok:
                raise ArchiveError(f"{self._url}: {answer.status_code} {answer.reason}")
            if answer.status_code != requests.codes.partial:
                self._content.clear()
                etag = answer.headers.get("ETag", "")
                self._etag = "" if etag.startswith("W/") else etag  # which would stand for other bytes as well
            while piece := answer.raw.read1(_PIECE):
                self._content += piece
                if len(self._content) < SLOWEST * (time.monotonic() - began - timeout[1]):
                    raise Incomplete(f"it came at less than {SLOWEST} bytes/s")

    def unpacked(self) -> bytes:
        """Return the FITS file; raises `Incomplete` if it is not whole, or not one."""
        content = bytes(self._content)
        try:
            content = bz2.decompress(content) if self._url.endswith(".bz2") else content
        except (OSError, ValueError) as error:
            self._content.clear()
            raise Incomplete(f"it cannot be unpacked: {error}") from error
        if not content.startswith(_FITS) or len(content) % _FITS_BLOCK:
            self._content.clear()
            raise Incomplete(f"expected a FITS file, got {len(content)} bytes that begin with {content[:60]!r}")
        return content
