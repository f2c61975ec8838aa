"""Files of an archive on this machine: each is downloaded once, unpacked, and kept as long as there is room."""

import bz2
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
from urllib3.util.retry import Retry

from photoz import __version__
from photoz.errors import PhotozError, reason

# Times that a file is asked for whose content does not arrive whole; requests without an answer are repeated as well.
ATTEMPTS = 4

TIMEOUT = (10.0, 60.0)  # seconds until a connection, and between two pieces of an answer

USER_AGENT = f"photoz/{__version__}"

_PIECE = 2**18


class ArchiveError(PhotozError):
    """What cannot be had from an archive."""


def session() -> requests.Session:
    """Return a session that waits and asks again when an archive is busy or out of reach."""
    made = requests.Session()
    made.headers["User-Agent"] = USER_AGENT
    retry = Retry(ATTEMPTS, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)
    for scheme in ("http://", "https://"):
        made.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
    return made


class FrameCache:
    """The unpacked frames of an archive, in a folder that several processes may use.

    Parameters
    ----------
    folder : Path
        It is made when it is needed.
    url : str
        What the paths of frames follow in the archive.
    max_bytes : int
        The frames that were used last are kept, up to so much.
    offline : bool
        Use what is there alone.
    """

    def __init__(self, folder: Path, url: str, max_bytes: int, *, offline: bool = False) -> None:
        self._folder, self._url, self._max_bytes, self._offline = folder, url.rstrip("/"), max_bytes, offline
        self._session: requests.Session | None = None

    def get(self, path: str) -> Path:
        """Return the file of a frame, `path` in the archive, such as "301/2583/2/frame-r-002583-2-0136.fits.bz2".

        Raises `ArchiveError` if it cannot be had.
        """
        kept = self._folder / Path(path).name.removesuffix(".bz2")
        with contextlib.suppress(FileNotFoundError):
            os.utime(kept)
            return kept
        if self._offline:
            raise ArchiveError(f"{kept.name} is not in {self._folder}, and nothing is downloaded offline")
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in reversed(range(ATTEMPTS)):
            try:
                self._download(f"{self._url}/{path}", kept)
                break
            except (requests.RequestException, EOFError, OSError) as error:
                if not isinstance(error, requests.RequestException) and getattr(error, "errno", None):
                    raise  # of this machine, such as a full disk
                if not left or isinstance(error, requests.HTTPError):
                    raise ArchiveError(f"{self._url}/{path}: {reason(error)}") from error
                time.sleep(0.5 * 2 ** (ATTEMPTS - left))
        self._evict(kept)
        return kept

    def _download(self, url: str, kept: Path) -> None:
        self._session = self._session or session()
        unpacker: Any = bz2.BZ2Decompressor()
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=f".{kept.name}-") as folder:
            whole = Path(folder) / kept.name
            with self._session.get(url, stream=True, timeout=TIMEOUT) as answer, whole.open("wb") as file:
                answer.raise_for_status()
                for piece in answer.iter_content(_PIECE):
                    file.write(unpacker.decompress(piece))
            if not unpacker.eof:
                raise EOFError("the file ends before its end")
            whole.replace(kept)

    def _evict(self, used: Path) -> None:
        """Remove the frames that were used the longest time ago until the others fit."""
        files = [(path.stat(), path) for path in self._folder.glob("frame-*")]
        left = sum(found.st_size for found, _ in files)
        for found, path in sorted(files, key=lambda one: one[0].st_mtime):
            if left <= self._max_bytes:
                return
            if path != used:
                path.unlink(missing_ok=True)
                left -= found.st_size
