"""Cutouts in Zarr: a group with an array `images`, in which every other array is a column, or one array of images.

Attributes of the group say what the images are: `image_spec`, as in our HDF5 files, or `bands`, `unit`, `pixel_scale`.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.attributes import from_attributes, merged, unit_of
from photoz.io.cutouts import Column, Cutouts, LazyImages, refusing
from photoz.io.formats import ZARR
from photoz.io.options import NO_OPTIONS, ReadOptions

# A whole chunk is unpacked at once.
MAX_CHUNK_BYTES = 512 * 1024 * 1024

# Files of an array other than its chunks.
METADATA = ("zarr.json", ".zarray", ".zattrs")


@contextmanager
def open_zarr(path: Path, options: ReadOptions = NO_OPTIONS) -> Iterator[Cutouts]:
    """Open a Zarr folder of cutouts; raises `InvalidDataset` if it cannot be used, `UnsupportedType` without zarr."""
    zarr = ZARR.load("zarr")
    with refusing(f"{path} is not a readable Zarr folder"), warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)  # of text of a fixed length
        cutouts = _from_node(zarr.open(str(path), mode="r"), path, zarr, options)
    yield cutouts


def _from_node(node: Any, path: Path, zarr: ModuleType, options: ReadOptions) -> Cutouts:
    folder, attributes = options.folder, node.attrs
    if folder:
        if folder.rstrip("/") not in node:
            raise InvalidDataset(f"{path} has no group {folder}; it has {', '.join(node)}")
        node = node[folder.rstrip("/")]
    arrays: dict[str, Any] = {"images": node} if isinstance(node, zarr.Array) else dict(node.arrays())
    images = arrays.pop(options.image_column([folder + name for name in arrays], path).removeprefix(folder))
    if len(images.shape) != 4:
        raise InvalidDataset(f"expected images of four axes in {path}, got the shape {images.shape}")
    _check_chunks(images, path)
    groups = [name for name, _ in node.groups()] if isinstance(node, zarr.Group) else []
    names, left_out = options.beside({name: array.shape for name, array in arrays.items()}, images.shape, groups)
    columns: Mapping[str, Column] = {name: _column(arrays[name], images.shape[0], path) for name in names}
    lazy = LazyImages(partial(_read, images, path), np.array(images.shape[:1]), tuple(images.shape[1:]))
    units = {name: unit_of(arrays[name].attrs) for name in names}
    return from_attributes(lazy, columns, merged(attributes, images.attrs, path), path, units, tuple(left_out))


def _check_chunks(images: Any, path: Path) -> None:
    chunk = images.shards or images.chunks
    size = math.prod(chunk) * images.dtype.itemsize
    if size > MAX_CHUNK_BYTES:
        raise InvalidDataset(
            f"a chunk of the images in {path} has {size:,} bytes, expected at most {MAX_CHUNK_BYTES:,}"
        )
    expected = math.prod(-(-length // side) for length, side in zip(images.shape, chunk, strict=True))
    files = (file for file in (path / images.path).rglob("*") if file.is_file() and file.name not in METADATA)
    if (n_files := sum(1 for _ in files)) < expected:  # zarr would read the fill value
        raise InvalidDataset(f"{path} has {n_files:,} of the {expected:,} chunks of its images")


def _column(array: Any, n: int, path: Path) -> Column:
    """Read a column into memory; text becomes numpy strings."""
    if not array.shape or array.shape[0] != n:
        raise InvalidDataset(f"expected {n} values of {array.name!r} in {path}, got the shape {array.shape}")
    values = np.asarray(array[:])
    return values if values.dtype.kind in "biuf" else values.astype(np.str_)


def _read(images: Any, path: Path, _: int, rows: slice) -> npt.NDArray[Any]:
    """Read images; a damaged chunk is noticed only now."""
    with refusing(f"{path} cannot be read"):
        return np.asarray(images[rows])
