"""Read and write whole files in a local folder, or at an fsspec URL such as s3://bucket/folder."""

import os
import re
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.config import conf
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from photoz.errors import InvalidInput, PhotozError

# The folder in which `write_local` writes a file before it gets its name.
SCRATCH = re.compile(r"\.(?P<name>.+)-[a-z0-9_]+")


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
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file; it appears when it is complete."""
        path = self._path(name)
        if self._is_local:
            write_local(Path(path), content)
            return
        with errors_named(f"{self.url}/{name}"):
            self._fs.pipe_file(path, content)  # an object appears when it is complete, and needs no folder

    def read(self, name: str) -> bytes:
        """Read a file; raises `FileNotFoundError`."""
        with errors_named(f"{self.url}/{name}"):
            content: bytes = self._fs.cat_file(self._path(name))
        return content

    def remove_incomplete(self, folder: str, names: Container[str]) -> None:
        """Remove what killed processes did not write to the end of files with these names, and nothing else."""
        for path in Path(self._path(folder)).glob(".*") if self._is_local else ():
            if (match := SCRATCH.fullmatch(path.name)) and match["name"] in names and not path.is_symlink():
                with suppress(OSError):  # it holds other files, or is not ours
                    (path / match["name"]).unlink(missing_ok=True)
                    path.rmdir()

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a subfolder, sorted; none if it does not exist."""
        try:
            with errors_named(f"{self.url}/{folder}"):
                entries = list_folder(self._fs, self._path(folder))
        except FileNotFoundError:
            return []
        names = (os.path.basename(entry["name"]) for entry in entries)
        return sorted(name for name in names if name and not name.startswith("."))

    def _path(self, name: str) -> str:
        """Return the path of a file or subfolder; raises `InvalidInput` if the way to it is a link, or it a device."""
        path = f"{self._root}/{name}"
        for part in (Path(self._root), Path(path).parent, Path(path)) if self._is_local else ():
            if part.is_symlink():
                raise InvalidInput(f"{part} is a link: a run is in a folder without links")
            if part.exists() and not (part.is_file() or part.is_dir()):
                raise InvalidInput(f"{part} is neither a file nor a folder")
        return path


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
