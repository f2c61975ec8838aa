"""Cutouts in the layout of Pasquet et al. 2019, whose `sdss.npz` is larger than most memories.

An `.npz` file is a zip archive of `.npy` files. The cutouts of a member that is stored without compression are read one
by one where they lie in the archive. A compressed one can only be read from beginning to end, which conversion to HDF5
does once.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.cutouts import Cutouts, ImageSource, LazyImages, refusing
from photoz.io.npz import Header, read_header, read_member

CUBE, LABELS = "cube.npy", "labels.npy"

# Column names of the fields of `labels`, by field in lower case; others keep their names, and those that are taken.
COLUMN_NAMES = {"z": "z_spec", "ebv": "ebv", "dered_petro_r": "dered_petro_r", "objid": "object_id"}

PROVENANCE = "cutouts in the layout of Pasquet et al. 2019"

_LOCAL_HEADER_SIZE = 30  # of a zip member, before its name and its extra field; APPNOTE.TXT of PKWARE, 4.3.7

ROWS_PER_READ = 64


def is_pasquet(path: Path) -> bool:
    """Whether a file is an `.npz` archive with an array `cube` and no `images`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError):
        return False
    return CUBE in names and "images.npy" not in names


def open_pasquet(path: Path) -> Cutouts:
    """Open a file in this layout: `cube` (n, size, size, n_bands) and a structured array `labels` (n,).

    Images are read when they are sliced; the fields of `labels` become columns, renamed by `COLUMN_NAMES`. Raises
    `InvalidDataset` if the cube is compressed, the labels are not a structured array, or either holds Python objects.
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(CUBE)
        if member.compress_type != zipfile.ZIP_STORED:
            raise InvalidDataset(
                f"{path} is compressed, so that its cutouts cannot be read one by one; "
                f"once run: python -m training convert {path} {path.with_suffix('.h5')}"
            )
        columns = _columns(archive, path)
    return Cutouts(_stored(path, member), columns, provenance=f"{PROVENANCE} ({path.name})")


def stream_pasquet(path: Path) -> tuple[tuple[int, ...], Mapping[str, npt.NDArray[Any]], Iterator[npt.NDArray[Any]]]:
    """Return shape, columns and an iterator over blocks of images, (m, size, size, n_bands), compressed or not.

    Raises as `open_pasquet`, and `InvalidDataset` for a cube in Fortran order.
    """
    with zipfile.ZipFile(path) as archive:
        with archive.open(CUBE) as stream:
            shape, fortran, _ = _header(stream, path)
        if fortran:
            raise InvalidDataset(f"the cube in {path} is in Fortran order: its cutouts do not follow one another")
        columns = _columns(archive, path)
    return shape, columns, _blocks(path)


def _blocks(path: Path) -> Iterator[npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive, archive.open(CUBE) as stream:
        (n, *cutout), _, dtype = _header(stream, path)
        for start in range(0, n, ROWS_PER_READ):
            shape = (min(ROWS_PER_READ, n - start), *cutout)
            yield np.frombuffer(_read(stream, int(np.prod(shape)) * dtype.itemsize, path), dtype).reshape(shape)


def _read(stream: IO[bytes], n_bytes: int, path: Path) -> bytes:
    with refusing(f"the cube in {path} is damaged"):
        content = stream.read(n_bytes)
    if len(content) < n_bytes:
        raise InvalidDataset(f"{path} ends before its last cutout")
    return content


def _stored(path: Path, member: zipfile.ZipInfo) -> ImageSource:
    with path.open("rb") as file:
        file.seek(member.header_offset)
        # The extra field of the archive's directory may have another length than the one in this local header.
        local = file.read(_LOCAL_HEADER_SIZE)
        file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
        shape, fortran, dtype = _header(file, path)
        offset = file.tell()
    missing = offset + math.prod(shape) * dtype.itemsize - path.stat().st_size
    if missing > 0:
        raise InvalidDataset(f"{path} ends before its last cutout: {missing:,} bytes are missing")
    if fortran:
        return np.memmap(path, dtype, "r", offset, shape, "F")
    # Not mapped into memory: everything that was read would count as memory of this process.
    return LazyImages(partial(_read_rows, path, dtype, offset, shape[1:]), np.array(shape[:1]), shape[1:])


def _read_rows(
    path: Path, dtype: np.dtype[Any], offset: int, cutout: tuple[int, ...], _: int, rows: slice
) -> npt.NDArray[Any]:
    n, size = rows.stop - rows.start, math.prod(cutout)
    return np.fromfile(path, dtype, n * size, offset=offset + rows.start * size * dtype.itemsize).reshape(n, *cutout)


def _header(stream: IO[bytes], path: Path) -> Header:
    with refusing(f"the cube in {path} has no readable header"):
        shape, fortran, dtype = read_header(stream)
    if dtype.kind != "f" or len(shape) != 4:
        raise InvalidDataset(f"expected a cube (n, size, size, n_bands) of floats in {path}, got {shape} of {dtype}")
    return shape, fortran, dtype


def _columns(archive: zipfile.ZipFile, path: Path) -> dict[str, npt.NDArray[Any]]:
    if LABELS not in archive.namelist():
        raise InvalidDataset(f"expected an array 'labels' in addition to the cube in {path}")
    try:
        labels = read_member(archive, archive.getinfo(LABELS))
    except Exception as error:  # a damaged file raises any exception
        raise InvalidDataset(f"the labels in {path} are not a readable array of plain values: {error}") from error
    if labels.dtype.names is None:
        raise InvalidDataset(f"expected labels with named fields in {path}, got an array of {labels.dtype}")
    names = {field: COLUMN_NAMES.get(field.lower(), field) for field in labels.dtype.names}
    columns = {field if name in names else name: labels[field].copy() for field, name in names.items()}
    if "object_id" in columns:
        columns["object_id"] = columns["object_id"].astype(np.str_)  # SDSS's are numbers
    return columns
