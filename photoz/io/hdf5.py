"""Cutouts in HDF5, the native format, and tables of estimates.

In a file of cutouts the dataset `images` (n, size, size, n_bands) has one chunk per cutout, so that any row is one
read; every other dataset is a column. Images stay on disk until they are sliced: a set may be larger than memory.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.attributes import from_attributes, merged
from photoz.io.cutouts import Column, Cutouts, check_lengths, refusing
from photoz.io.public_sets import read_public_set
from photoz.io.tables import ResultTable, column_info


@contextmanager
def open_hdf5(path: Path, content: BinaryIO | None = None) -> Iterator[Cutouts]:
    """Open an HDF5 file of cutouts, or its content in memory, which is then called `path`.

    Raises `InvalidDataset` if it cannot be used. HDF5 is parsed in C: open files of unknown origin in a process
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
    with refusing(f"{path} cannot be read"):
        datasets = {name: item for name in file if (item := _dataset(file, name, path)) is not None}
        if "image_spec" not in file.attrs and (cutouts := read_public_set(datasets, _read_column, path)) is not None:
            return cutouts
        images = datasets.pop("images", None)
        if images is None:
            raise InvalidDataset(f"{path} holds no dataset 'images'")
        check_lengths(images.shape, datasets)  # before a long column is read
        columns = {name: _read_column(dataset) for name, dataset in datasets.items()}
        units = {name: str(dataset.attrs.get("unit", "")) for name, dataset in datasets.items()}
        groups = tuple(f"the group {name}" for name in file if name not in datasets and name != "images")
        attributes = {"provenance": "", **merged(file.attrs, images.attrs, path)}
        return from_attributes(images, columns, attributes, path, units, groups)


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


def _read_column(dataset: h5py.Dataset) -> Column:
    """Read a column, text as numpy strings: Python objects could not be saved without pickle."""
    if h5py.check_string_dtype(dataset.dtype) is None:
        return np.asarray(dataset[()])
    return np.asarray(dataset.asstr()[()]).astype(np.str_)


@contextmanager
def create_hdf5(
    path: str | os.PathLike[str], n: int, spec: ImageSpec = SDSS_IMAGES, provenance: str = ""
) -> Iterator[h5py.File]:
    """Create a file for n cutouts; the context yields it with an empty dataset `images`.

    The file gets its name when the block ends without an error. Use `write_columns` for the columns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        scratch = Path(folder) / path.name
        with h5py.File(scratch, "w") as file:
            file.attrs["image_spec"] = json.dumps(asdict(spec))
            file.attrs["provenance"] = provenance
            file.create_dataset("images", (n, *spec.shape), np.float32, chunks=(1, *spec.shape))
            yield file
        scratch.replace(path)


def write_columns(file: h5py.File, columns: Mapping[str, npt.ArrayLike]) -> None:
    """Write columns, (n, ...) each; text becomes UTF-8."""
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind == "U":
            file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
        else:
            file.create_dataset(name, data=array)


def write_hdf5(table: ResultTable, target: BinaryIO) -> None:
    """Write each column of a table of estimates, (n, ...), as a dataset with its description and UCD as attributes.

    Text is UTF-8. Attributes of the file hold the provenance, and with PDFs the dataset `z_edges`, (n_bins + 1,), holds
    the edges of their bins.
    """
    edges = table.z_edges()
    with h5py.File(target, "w") as file:
        write_provenance(file, table)
        write_columns(file, dict(table.columns()))
        for name, dataset in file.items():
            info = column_info(name)
            dataset.attrs["description"], dataset.attrs["ucd"] = info.description, info.ucd
        if edges is not None:
            file["z_edges"] = edges
            file["z_edges"].attrs["description"] = "edges of the redshift bins of pdf"


def write_provenance(file: h5py.File, table: ResultTable) -> None:
    """Write the provenance of a table as attributes: text, or arrays of text."""
    file.attrs["model"] = table.provenance.model
    for name, value in table.provenance.record().items():
        file.attrs[name] = np.array(value, dtype=h5py.string_dtype()) if isinstance(value, tuple) else value
