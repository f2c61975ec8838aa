"""Find the input files of a run, and divide their rows into chunks."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from photoz.errors import InvalidDataset, PhotozError, reason
from photoz.estimates import as_names
from photoz.io.columns import ALIASES
from photoz.io.cutouts import Cutouts
from photoz.io.fields import read_positions
from photoz.io.formats import read_format
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.io.reader import open_cutouts
from photoz_survey.manifest import InputFile
from photoz_survey.storage import errors_named, find_filesystem, list_folder


@dataclass(frozen=True)
class Segment:
    """Rows `[first, last)` of a file; None means to the end."""

    file: int  # index of the input
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class Chunk:
    """Rows that are scored together and written as one part."""

    number: int
    segments: tuple[Segment, ...]

    @property
    def n_rows(self) -> int:
        """Number of rows; those of files of unknown length are not counted."""
        return sum(segment.last - segment.first for segment in self.segments if segment.last is not None)


def find_inputs(paths: Iterable[str], options: ReadOptions = NO_OPTIONS) -> list[InputFile]:
    """Find the files that paths, folders and patterns stand for, always in the same order, and describe them.

    Local files are opened to count their rows; with a catalogue of positions, each path is one field, whose rows are
    those of the catalogue. Raises `InvalidDataset` if a path stands for no file, or a file is
    given twice.
    """
    files = [*paths] if options.at else [file for path in paths for file in _files(path)]
    if repeated := [file for file, n in Counter(files).items() if n > 1]:
        raise InvalidDataset(f"{repeated[0]} is given more than once")
    return [_describe(file, options) for file in files]


def _files(path: str) -> list[str]:
    fs, root = find_filesystem(path)
    with errors_named(path):
        fs.invalidate_cache(root)
        parts = root.split("/")
        first = next((n for n, part in enumerate(parts) if any(letter in part for letter in "*?[")), None)
        if first is not None:
            files = sorted(_matching(fs, "/".join(parts[:first]) or fs.root_marker, parts[first:]))
        elif fs.isdir(root) and not root.endswith(".zarr"):
            files = sorted(name for name in fs.ls(root, detail=False) if _is_cutouts(name))
        else:
            files = [root]
        if not files or (len(files) == 1 and not fs.exists(files[0])):
            raise InvalidDataset(f"no file of cutouts at {path}")
    return [name if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(name) for name in files]


def _matching(fs: Any, folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the files in a folder that match the parts of a pattern; `**` matches any folders.

    Raises an error if a folder cannot be listed: `fs.glob` would skip it, and the run would miss its files.
    """
    first, *rest = parts
    if first == "**":
        yield from _matching(fs, folder, rest or ["*"])
    for entry in list_folder(fs, folder):
        name, is_folder = entry["name"].rstrip("/"), entry["type"] == "directory"
        if name == folder or not fnmatchcase(os.path.basename(name), first):
            continue
        if is_folder and (rest or first == "**"):
            yield from _matching(fs, name, parts if first == "**" else rest)
        elif not rest and first != "**":
            yield name


def _is_cutouts(name: str) -> bool:
    base = os.path.basename(name)
    return not base.startswith(".") and read_format(Path(base)) is not None


def _describe(path: str, options: ReadOptions) -> InputFile:
    """Describe a file; why it cannot be read becomes its `error`."""
    fs, root = find_filesystem(path)
    described = _identify(fs, root, path)
    if not isinstance(fs, LocalFileSystem):
        return described
    if options.at is not None:
        columns, _ = read_positions(options.at)
        is_integer = columns["object_id"].dtype.kind in "iu"
        return described.model_copy(update={"n_rows": len(columns["ra"]), "integer_ids": is_integer})
    try:
        with open_cutouts(root, options) as cutouts:
            return described.model_copy(update={"n_rows": len(cutouts), "integer_ids": _has_integer_ids(cutouts)})
    except (PhotozError, OSError) as error:
        return described.model_copy(update={"error": reason(error)})


def _has_integer_ids(cutouts: Cutouts) -> bool:
    """Whether all columns that may be `object_id` are integers; without any, rows have numbers."""
    names = {"object_id", *ALIASES["object_id"]}
    given = [values for name, values in cutouts.columns.items() if name.lower() in names]
    return all(as_names(values).dtype.kind == "i" for values in given)


def has_changed(file: InputFile) -> bool:
    """Whether a file has changed since it was described, by its size and date or ETag."""
    fs, root = find_filesystem(file.path)
    fs.invalidate_cache(root)
    now = _identify(fs, root, file.path)
    return (now.size, now.modified) != (file.size, file.modified)


def _identify(fs: Any, root: str, path: str) -> InputFile:
    with errors_named(path):
        info: dict[str, Any] = fs.info(root)
    if info["type"] == "directory" and not isinstance(fs, LocalFileSystem):
        raise InvalidDataset(f"{path} is a folder: from URLs, only files of cutouts are read")
    modified = str(next((info[key] for key in ("ETag", "etag", "mtime", "LastModified") if key in info), ""))
    return InputFile(path=path, size=info["size"] or 0, modified=modified)


def chunks(inputs: Sequence[InputFile], rows_per_part: int) -> list[Chunk]:
    """Divide the rows of files, in order, into chunks of at most `rows_per_part` rows.

    Small files share a chunk, as do files that cannot be read, which are reported with it. A file of unknown length is
    a chunk of its own.
    """
    return [Chunk(number, segments) for number, segments in enumerate(_groups(inputs, rows_per_part))]


def _groups(inputs: Sequence[InputFile], rows_per_part: int) -> Iterator[tuple[Segment, ...]]:
    small, n = list[Segment](), 0
    for file, described in enumerate(inputs):
        n_rows = 0 if described.error else described.n_rows
        is_small = n_rows is not None and n_rows <= rows_per_part
        if small and (not is_small or n + (n_rows or 0) > rows_per_part):
            yield tuple(small)
            small, n = [], 0
        if n_rows is None:
            yield (Segment(file),)
        elif is_small:
            small.append(Segment(file, 0, n_rows))
            n += n_rows
        else:
            starts = range(0, n_rows, rows_per_part)
            yield from ((Segment(file, first, min(first + rows_per_part, n_rows)),) for first in starts)
    if small:
        yield tuple(small)
