"""Cutouts in HDF5, the native format.

The dataset `images` (n, size, size, n_bands) has one chunk per cutout, so that any row is one read; every other dataset
is a column. Images stay on disk until they are sliced, so that a set larger than memory can be read.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import h5py
import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, reason
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import Column, Cutouts, check_lengths
from photoz.io.layout import from_attributes


@contextmanager
def open_hdf5(path: Path, content: BinaryIO | None = None) -> Iterator[Cutouts]:
    """Open an HDF5 file of cutouts, or its content in memory, which is then called `path`.

    Raises `InvalidDataset` if it cannot be used. HDF5 is parsed in C: files of unknown origin belong into a process
    with limits.
    """
    try:
        file = h5py.File(content or path, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidDataset(f"{path} is not an HDF5 file: {error}") from error
    with file:
        yield _from_hdf5(file, path)


def _from_hdf5(file: h5py.File, path: Path) -> Cutouts:
    try:
        found = {name: item for name in file if (item := _dataset(file, name, path)) is not None}
        images = found.pop("images", None)
        if images is None:
            raise InvalidDataset(f"{path} holds no dataset 'images'")
        check_lengths(images.shape, found)
        columns = {name: _text(item) if _is_text(item) else item[()] for name, item in found.items()}
        return from_attributes(images, columns, {"provenance": "", **file.attrs}, path)
    except InvalidDataset:
        raise
    except Exception as error:  # of a damaged file: RuntimeError, OSError, KeyError, ValueError
        raise InvalidDataset(f"{path} cannot be read: {reason(error)}") from error


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset | None:
    """Return a dataset of a file, or None for a group; refuse references that make HDF5 open other files."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InvalidDataset(f"{name!r} in {path} is a link, perhaps to other files; expected everything in one")
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        return None
    if item.external or item.is_virtual:
        raise InvalidDataset(f"{name!r} in {path} has its values in other files; expected everything in one")
    return item


def _is_text(dataset: h5py.Dataset) -> bool:
    return h5py.check_string_dtype(dataset.dtype) is not None


def _text(dataset: h5py.Dataset) -> Column:
    """Read text as numpy strings: Python objects could not be saved without pickle."""
    return np.asarray(dataset.asstr()[()]).astype(np.str_)


@contextmanager
def create_hdf5(
    path: str | os.PathLike[str], n: int, spec: ImageSpec = SDSS_IMAGES, provenance: str = ""
) -> Iterator[h5py.File]:
    """Create a file for n cutouts; the context yields it with an empty dataset `images`.

    The file gets its name only when the block ends without an error. Use `write_columns` for the columns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{uuid4().hex}")  # not mkstemp, whose files only their owner may read
    try:
        with h5py.File(scratch, "w") as file:
            file.attrs["image_spec"] = json.dumps(asdict(spec))
            file.attrs["provenance"] = provenance
            file.create_dataset("images", (n, *spec.shape), np.float32, chunks=(1, *spec.shape))
            yield file
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_columns(file: h5py.File, columns: Mapping[str, npt.ArrayLike]) -> None:
    """Write columns, (n, ...) each; text becomes UTF-8."""
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind == "U":
            file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
        else:
            file.create_dataset(name, data=array)
