"""Files in a folder, on this machine or at an fsspec URL such as s3://bucket/folder; each appears as a whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem


class Folder:
    """A folder that is written to, path or URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = url_to_fs(url)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it; it appears when it is complete."""
        path = f"{self._root}/{name}"
        self._fs.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(self._fs, LocalFileSystem):
            _write_local(Path(path), content)
        else:
            self._fs.pipe_file(path, content)  # objects are complete or not there

    def read(self, name: str) -> bytes:
        """Read a file; raises `FileNotFoundError`."""
        content: bytes = self._fs.cat_file(f"{self._root}/{name}")
        return content

    def remove_incomplete(self, folder: str) -> None:
        """Remove what writing has left behind in a folder, where it was killed."""
        for path in Path(self._root, folder).glob(".*") if isinstance(self._fs, LocalFileSystem) else ():
            shutil.rmtree(path, ignore_errors=True)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files of a folder in this one, sorted; none if there is no such folder."""
        path = f"{self._root}/{folder}"
        self._fs.invalidate_cache(path)
        try:
            found = self._fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for name in map(os.path.basename, found) if name and not name.startswith("."))


def _write_local(path: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        whole = Path(folder) / path.name
        with whole.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path)


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Yield the path of a file on this machine: the file itself, or a copy for as long as the context lasts."""
    fs, root = url_to_fs(path)
    if isinstance(fs, LocalFileSystem):
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="photoz-") as folder:
        copy = Path(folder) / os.path.basename(root)
        fs.get_file(root, str(copy))
        yield copy
