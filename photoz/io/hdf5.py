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
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.attributes import from_attributes, merged, unit_of
from photoz.io.cutouts import Column, Cutouts, check_lengths, refusing
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.io.public_sets import read_public_set
from photoz.io.tables import ResultTable, column_info


@contextmanager
def open_hdf5(path: Path, options: ReadOptions = NO_OPTIONS, content: BinaryIO | None = None) -> Iterator[Cutouts]:
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
        yield _from_hdf5(file, path, options)


def _from_hdf5(file: h5py.File, path: Path, options: ReadOptions) -> Cutouts:
    with refusing(f"{path} cannot be read"):
        folder = options.folder
        datasets, groups = _contents(_group(file, folder, path), path)
        may_be_public = not options.column and "image_spec" not in file.attrs
        if may_be_public and (cutouts := read_public_set(datasets, _read_column, path)) is not None:
            return cutouts
        listed = [*(folder + name for name in datasets), *(f"{folder}{name}/" for name in groups)]
        images = datasets.pop(options.image_column(listed, path).removeprefix(folder))
        shapes = {name: dataset.shape for name, dataset in datasets.items()}
        names, left_out = options.beside(shapes, images.shape, groups)
        datasets = {name: datasets[name] for name in names}
        check_lengths(images.shape, datasets)  # before a long column is read
        columns = {name: _read_column(dataset) for name, dataset in datasets.items()}
        units = {name: unit_of(dataset.attrs) for name, dataset in datasets.items()}
        attributes = {"provenance": "", **merged(file.attrs, images.attrs, path)}
        return from_attributes(images, columns, attributes, path, units, tuple(left_out))


def _contents(group: h5py.Group, path: Path) -> tuple[dict[str, h5py.Dataset], list[str]]:
    """Return the datasets in a group, and the names of groups in it."""
    items = {name: _item(group, name, path) for name in group}
    datasets = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
    return datasets, [name for name in items if name not in datasets]


def _group(file: h5py.File, folder: str, path: Path) -> h5py.Group:
    """Return a group by its path; raises `InvalidDataset` if it is not there."""
    group: h5py.Group = file
    for name in folder.split("/")[:-1]:
        if name not in group or not isinstance(item := _item(group, name, path), h5py.Group):
            raise InvalidDataset(f"{path} has no group {name!r} of {folder}; it has {', '.join(group)}")
        group = item
    return group


def _item(group: h5py.Group, name: str, path: Path) -> Any:
    """Return a dataset or a group; refuse references that make HDF5 open other files."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InvalidDataset(f"{name!r} in {path} is a link, perhaps to other files; expected everything in one")
    item = group.get(name)
    if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
        raise InvalidDataset(f"{name!r} in {path} has its values in other files; expected everything in one")
    return item


def _is_column(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset holds numbers or text, and no images."""
    return dataset.ndim < 3 and (dataset.dtype.kind in "biufS" or h5py.check_string_dtype(dataset.dtype) is not None)


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
