"""A cache of FITS files of an archive: each is downloaded once, unpacked, and kept while there is room."""

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

# Attempts to download a file; requests that fail are also repeated by urllib3.
ATTEMPTS = 4

TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for more of the response

# Abort downloads slower than this (bytes/s) once the second timeout has passed.
SLOWEST = 1000

# Look for files to remove whenever this fraction of the cache's size has been added.
CHECKED_AFTER = 0.01

USER_AGENT = f"photoz/{__version__}"

_PIECE = 2**18
_FITS, _FITS_BLOCK = b"SIMPLE  =", 2880


class ArchiveError(PhotozError):
    """An archive does not have a file, or does not answer."""


class Incomplete(Exception):
    """A download ended early, or is too slow."""


def open_session() -> requests.Session:
    """Return a session that retries, with pauses, while an archive is busy or unreachable."""
    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    busy = (429, 500, 502, 503, 504)
    retry = Retry(ATTEMPTS, backoff_factor=0.5, status_forcelist=busy, allowed_methods=None, raise_on_status=False)
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
    return session


def explain(error: Exception) -> str:
    """Return why a request failed, without the addresses that requests and urllib3 repeat."""
    cause = getattr(error.args[0] if error.args else None, "reason", None)  # of urllib3's MaxRetryError
    return reason(error) if cause is None else str(cause).partition("): ")[2] or reason(cause)


@dataclass
class FileCache:
    """The unpacked FITS files of an archive, in a folder that several processes may use."""

    folder: Path  # created when it is needed
    max_bytes: int  # the least recently used files are removed
    offline: bool = False  # download nothing
    interval: float = 0.0  # least time between two requests of this process, in seconds
    timeout: tuple[float, float] = TIMEOUT
    _session: requests.Session | None = None
    _next: float = 0.0  # when the next request may be made
    _added: int = 0  # bytes since files were last removed

    def open(self, url: str, name: str) -> BinaryIO:
        """Open the file at a URL, called `name` in the cache; a .bz2 file is unpacked.

        Raises `ArchiveError` if the archive does not have the file, or does not answer.
        """
        cached = self.folder / name
        while True:
            with contextlib.suppress(FileNotFoundError):
                file = cached.open("rb")
                os.utime(file.fileno())
                return file
            if self.offline:
                raise ArchiveError(f"{name} is not in {self.folder}, and nothing is downloaded offline")
            self._fetch(url, cached)
            if self._added > CHECKED_AFTER * self.max_bytes:  # seldom, since it lists all files
                self._evict(cached)
                self._added = 0

    def _fetch(self, url: str, cached: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = cached.with_name(f".{cached.name}.part")
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may download the same file
            if cached.exists():
                return
            file.truncate(0)  # a killed process may have written some of it
            try:
                self._added += file.write(self._download(url))
                file.flush()
                part.replace(cached)
            except BaseException:
                file.truncate(0)
                raise

    def _download(self, url: str) -> bytes:
        """Return a FITS file; an incomplete download is resumed."""
        self._session = self._session or open_session()
        download = _Download(url)
        for left in reversed(range(ATTEMPTS)):
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + self.interval
            try:
                download.resume(self._session, self.timeout)
                return download.unpacked()
            except (requests.RequestException, HTTPError, Incomplete) as error:
                if not left:
                    raise ArchiveError(f"{url}: {explain(error)}") from error
            time.sleep(0.5 * 2 ** (ATTEMPTS - left))
        raise AssertionError("the last attempt returns or raises")

    def _evict(self, used: Path) -> None:
        """Remove the least recently used files until the others fit."""
        files = [(path.stat(), path) for path in self.folder.glob("[!.]*")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self.max_bytes:
                return
            if path != used:
                path.unlink(missing_ok=True)
                total -= stat.st_size


class _Download:
    """A download that can be resumed."""

    def __init__(self, url: str) -> None:
        self._url, self._content, self._etag = url, bytearray(), ""

    def resume(self, session: requests.Session, timeout: tuple[float, float]) -> None:
        """Receive the rest of the file, or all of it if it has changed in the archive."""
        headers = {"Accept-Encoding": "identity"}
        if self._content and self._etag:
            headers |= {"Range": f"bytes={len(self._content)}-", "If-Range": self._etag}
        start = time.monotonic()
        with session.get(self._url, headers=headers, stream=True, timeout=timeout) as response:
            if not response.ok:
                raise ArchiveError(f"{self._url}: {response.status_code} {response.reason}")
            if response.status_code != requests.codes.partial:
                self._content.clear()
                etag = response.headers.get("ETag", "")
                self._etag = "" if etag.startswith("W/") else etag  # a weak ETag may stand for different bytes
            while piece := response.raw.read1(_PIECE):
                self._content += piece
                if len(self._content) < SLOWEST * (time.monotonic() - start - timeout[1]):
                    raise Incomplete(f"it came at less than {SLOWEST} bytes/s")

    def unpacked(self) -> bytes:
        """Return the FITS file; raises `Incomplete` if it is truncated or in another format."""
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
