"""A cache of FITS files of an archive: each is downloaded once, unpacked, and kept while there is room."""

import bz2
import contextlib
import fcntl
import io
import math
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from photoz_survey.sky.session import MAX_BYTES, TIMEOUT, ArchiveError, Missing, Session, quoted, status

# Look for files to remove whenever this fraction of the cache's size has been added.
CHECKED_AFTER = 0.01

# Seconds for which answers of a catalogue, which are in the cache too, are used again.
MAX_AGE = 30 * 86_400

# The begin of a FITS file, which says how many axes its image has: astropy reads the length of each, however many.
FITS, FITS_BLOCK = re.compile(rb"SIMPLE  = .{70}BITPIX  = .{70}NAXIS   = +[0-4] ", re.DOTALL), 2880


@dataclass
class FileCache:
    """The unpacked FITS files of an archive, in a folder that several processes may use.

    An empty file stands for one that the archive does not have.
    """

    folder: Path  # created when it is needed
    max_bytes: int  # the least recently used files are removed
    offline: bool = False  # download nothing
    interval: float = 0.0  # least time between two requests of this process, in seconds
    timeout: tuple[float, float] = TIMEOUT
    begun: float = field(default_factory=time.time, compare=False)  # the archive may have now what was missing before
    _session: Session | None = None
    _next: float = 0.0  # when the next request may be made
    _added: float = math.inf  # bytes since files were last removed; others may have added some before

    def open(self, url: str, name: str) -> BinaryIO:
        """Open the file at a URL, called `name` in the cache; a .bz2 file is unpacked.

        Raises `Missing` if the archive does not have the file, and otherwise as `Session.request`.
        """
        cached = self.folder / name
        while True:
            if self._is_known(cached):
                with contextlib.suppress(FileNotFoundError):
                    file = cached.open("rb")
                    if not os.fstat(file.fileno()).st_size:
                        file.close()
                        raise Missing(f"{url}: 404, not found")
                    os.utime(file.fileno())
                    return file
            if self.offline:
                raise ArchiveError(f"{name} is not in {self.folder}, and nothing is downloaded offline")
            self._fetch(url, cached)
            if self._added > CHECKED_AFTER * self.max_bytes:  # seldom, since it lists all files
                self._evict(cached)
                self._added = 0

    def discard(self, name: str) -> None:
        """Remove a file that cannot be used."""
        (self.folder / name).unlink(missing_ok=True)

    def _is_known(self, cached: Path) -> bool:
        """Whether a file is in the cache, or known to be missing from the archive."""
        try:
            found = cached.stat()
        except FileNotFoundError:
            return False
        return found.st_size > 0 or self.offline or found.st_mtime >= self.begun

    def _fetch(self, url: str, cached: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = cached.with_name(f".{cached.name}.part")
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may have downloaded, and even removed, the same file
            if not part.exists() or not part.samefile(f"/dev/fd/{file.fileno()}"):
                return
            file.truncate(0)  # a killed process may have written some of it
            self._added += file.write(self._download(url))
            file.flush()
            part.replace(cached)

    def _download(self, url: str) -> bytes:
        """Return a FITS file; empty if the archive does not have it."""
        self._session = self._session or Session(self.timeout)
        for is_last in (False, True):
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + self.interval
            response = self._session.get(url)
            if response.status_code == 404:
                return b""
            if not response.ok:
                raise ArchiveError(f"{url}: {status(response)}")
            try:
                return _unpacked(response.content, is_packed=urlsplit(url).path.endswith(".bz2"))
            except (OSError, EOFError, ValueError) as error:
                if is_last:
                    raise ArchiveError(f"{url}: {error}") from error
        raise AssertionError("the last attempt returns or raises")

    def _evict(self, used: Path) -> None:
        """Remove the least recently used files until the others fit; answers of a catalogue only if they are old."""
        files = [(path.stat(), path) for path in self.folder.glob("[!.]*.fits")]
        answers = [(path.stat(), path) for path in self.folder.glob("catalogue-*.csv")]
        files += [(stat, path) for stat, path in answers if stat.st_mtime < self.begun - MAX_AGE]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self.max_bytes:
                return
            if path != used:
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _unpacked(content: bytes, *, is_packed: bool) -> bytes:
    """Return a FITS file; raises `OSError`, `EOFError` or `ValueError` if it is truncated or in another format."""
    if is_packed and content.startswith(b"BZh"):
        with bz2.open(io.BytesIO(content)) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"unpacked, it has more than {MAX_BYTES:,} bytes")
    if not FITS.match(content) or len(content) % FITS_BLOCK:
        raise ValueError(f"expected an image in a FITS file, got {len(content):,} bytes: {quoted(content)}")
    return content
