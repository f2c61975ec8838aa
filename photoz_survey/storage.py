"""Read and write whole files in a local folder, or at an fsspec URL such as s3://bucket/folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.config import conf
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from photoz.errors import PhotozError


@contextmanager
def errors_named(url: str) -> Iterator[None]:
    """Raise any exception as an `OSError` that names the URL: the clients of servers raise exceptions of any kind."""
    try:
        yield
    except Exception as error:
        if isinstance(error, PhotozError) or getattr(error, "filename", None):
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        raise kind(f"{url}: {getattr(error, 'strerror', '') or error or type(error).__name__}") from error


def find_filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a path or URL, and the path in it."""
    # By default s3fs fetches an object of more than 50 MB in ten ranges at once. If a range is cut off, s3fs does not
    # retry and does not release the connection: after ten such errors it waits forever for another connection.
    conf.setdefault("s3", {}).setdefault("max_concurrency", 1)
    with errors_named(url):  # the protocol may be unknown
        fs, path = url_to_fs(url)
    return fs, path


def list_folder(fs: Any, path: str) -> list[dict[str, Any]]:
    """List a folder as it is now; file systems cache their listings."""
    fs.invalidate_cache(path)
    entries: list[dict[str, Any]] = fs.ls(path, detail=True)
    return entries


class Folder:
    """A folder for results, at a path or URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = find_filesystem(url)

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file; it appears when it is complete."""
        path = f"{self._root}/{name}"
        if isinstance(self._fs, LocalFileSystem):
            write_local(Path(path), content)
            return
        with errors_named(f"{self.url}/{name}"):
            self._fs.pipe_file(path, content)  # an object appears when it is complete, and needs no folder

    def read(self, name: str) -> bytes:
        """Read a file; raises `FileNotFoundError`."""
        with errors_named(f"{self.url}/{name}"):
            content: bytes = self._fs.cat_file(f"{self._root}/{name}")
        return content

    def remove_incomplete(self, folder: str) -> None:
        """Remove files from a folder that a killed process did not write to the end."""
        for path in Path(self._root, folder).glob(".*") if isinstance(self._fs, LocalFileSystem) else ():
            shutil.rmtree(path, ignore_errors=True)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a subfolder, sorted; none if it does not exist."""
        try:
            with errors_named(f"{self.url}/{folder}"):
                entries = list_folder(self._fs, f"{self._root}/{folder}")
        except FileNotFoundError:
            return []
        names = (os.path.basename(entry["name"]) for entry in entries)
        return sorted(name for name in names if name and not name.startswith("."))


def parts_folder(output: Path) -> Path:
    """Return the folder for the parts of a file while it is being made."""
    return output.with_name(f"{output.name}.parts")


def write_local(path: Path, content: bytes) -> None:
    """Write or replace a local file, and make its folder; it appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        whole = Path(folder) / path.name
        with whole.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path)


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Yield the path of a local file, or of a temporary copy of a file at a URL."""
    fs, root = find_filesystem(path)
    if isinstance(fs, LocalFileSystem):
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="photoz-") as folder:
        copy = Path(folder) / os.path.basename(root)
        with errors_named(path):
            fs.get_file(root, str(copy))
            expected, got = fs.size(root), copy.stat().st_size
            if expected not in (None, got):
                raise OSError(f"expected {expected} bytes, got {got}")
        yield copy
