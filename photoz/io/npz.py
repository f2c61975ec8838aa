"""Read arrays from `.npy` and `.npz` files of unknown origin.

Unlike numpy's readers, these do not trust the file: they never allocate more memory than there are bytes to read,
never decompress without an output limit (bzip2, LZMA), and never unpickle.
"""

import io
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, MalformedInput, TooLarge
from photoz.io.attributes import NAMES, from_attributes
from photoz.io.cutouts import COLUMNS, Cutouts
from photoz.io.options import NO_OPTIONS, ReadOptions

Array = npt.NDArray[Any]
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]  # shape, whether Fortran-ordered, dtype

HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# The methods that numpy writes, and the only ones for which Python limits how much is unpacked at a time.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

MAX_MEMBERS = 64
MAX_HEADER_BYTES = 10_000  # of a .npy file
MAX_CACHED_HEADERS = 256
MAX_ATTRIBUTE_BYTES = 4096  # of what describes images; the time to read it grows faster than its length

NOT_NPY = "not a readable .npy file of numbers"

# Tokens of a header of plain arrays. numpy's parser takes nearly any expression, and warns of some.
HEADER_GRAMMAR = re.compile(r"(?:'[^'\\\n]*'|True|False|-?[0-9]+L?(?![0-9A-Za-z_])|[][{}(),: \n])*")

READ_SIZE = 2**18  # bytes; small enough to stay in the processor's cache until they are copied


def read_header(stream: BinaryIO | IO[bytes], n_bytes: int | None = None) -> Header:
    """Read the header of a `.npy` stream, which has `n_bytes` bytes if that is given.

    Raises any exception of numpy's parser, or `ValueError` for Python objects or another number of bytes.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADER_READERS:
        raise ValueError(f"expected version 1.0 or 2.0, got {'.'.join(map(str, version))}")
    prefix = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(prefix, "little")
    header = stream.read(min(length, MAX_HEADER_BYTES))
    if length > MAX_HEADER_BYTES:
        raise ValueError("its header has expressions or field names that are not supported")
    shape, fortran, dtype = _parse_header(version, prefix + header)
    size = math.prod(shape) * dtype.itemsize
    if n_bytes is not None and size != n_bytes - stream.tell():
        raise ValueError(f"expected {size:,} bytes for shape {shape}, got {n_bytes - stream.tell():,}")
    return shape, fortran, dtype


@lru_cache(MAX_CACHED_HEADERS)  # numpy takes 0.06 ms to parse one, and most requests have the same
def _parse_header(version: tuple[int, int], header: bytes) -> Header:
    prefix_length = 2 if version == (1, 0) else 4
    if not HEADER_GRAMMAR.fullmatch(header[prefix_length:].decode("latin-1")):
        raise ValueError("its header has expressions or field names that are not supported")
    shape, fortran, dtype = HEADER_READERS[version](io.BytesIO(header))
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"expected numbers or text, got dtype {dtype}; nothing is unpickled (allow_pickle=False)")
    if min(shape, default=0) < 0:
        raise ValueError(f"expected no negative length, got shape {shape}")
    return shape, fortran, dtype


def read_array(stream: BinaryIO | IO[bytes], n_bytes: int) -> Array:
    """Read the array of a `.npy` stream of n_bytes bytes; raises `MalformedInput` if it is not complete or no array.

    Only numbers and text are arrays here: Python objects are refused, never unpickled.
    """
    try:
        shape, fortran, dtype = read_header(stream, n_bytes)
        return np.ndarray(shape, dtype, _read_bytes(stream, n_bytes - stream.tell()), order="F" if fortran else "C")
    except Exception as error:  # a broken header raises any exception of its parser, such as tokenize.TokenError
        raise MalformedInput(f"{NOT_NPY}: {error}") from error


def view_array(content: bytes) -> Array:
    """Return the array of a `.npy` file in memory, as a read-only view of its bytes; raises as `read_array`."""
    try:
        shape, fortran, dtype = read_header(stream := io.BytesIO(content), len(content))
        return np.ndarray(shape, dtype, content, stream.tell(), order="F" if fortran else "C")
    except Exception as error:  # see read_array
        raise MalformedInput(f"{NOT_NPY}: {error}") from error


def map_npy(path: Path) -> Array:
    """Map the array of a `.npy` file into memory; raises as `read_array`."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # see read_array
        raise MalformedInput(f"{NOT_NPY}: {error}") from error


def _read_bytes(stream: BinaryIO | IO[bytes], size: int) -> Array:
    """Read bytes in parts, because `zipfile` takes twice the memory of each read."""
    content = np.empty(size, np.uint8)
    for start in range(0, size, READ_SIZE):
        part = stream.read(min(size - start, READ_SIZE))
        if len(part) < min(size - start, READ_SIZE):
            raise ValueError(f"expected {size:,} bytes, got {start + len(part):,}")
        content[start : start + len(part)] = np.frombuffer(part, np.uint8)
    return content


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Read the array of a member of a `.npz` file.

    Raises `MalformedInput` as `read_array`, and ValueError for a compression method without an output limit.
    """
    if member.compress_type not in METHODS:
        raise ValueError(f"expected arrays stored or deflated, got zip method {member.compress_type}")
    with archive.open(member) as stream:
        try:
            return read_array(stream, member.file_size)
        except MalformedInput as error:
            raise MalformedInput(f"{member.filename.removesuffix('.npy')[:40]} is {error}") from error


@dataclass(frozen=True)
class Archive:
    """An open `.npz` file whose directory has been checked."""

    file: zipfile.ZipFile
    names: tuple[str, ...]
    unpacked_bytes: int

    @classmethod
    def open(cls, stream: BinaryIO, max_bytes: int | None = None) -> "Archive":
        """Read the directory of a `.npz` stream; raises `MalformedInput`, or `TooLarge` for more bytes unpacked."""
        try:
            file = zipfile.ZipFile(stream)
            members = file.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(names) > MAX_MEMBERS:
                raise ValueError(f"expected at most {MAX_MEMBERS} arrays, got {len(names):,}")
            if len(set(names)) < len(names):
                raise ValueError("expected each array once, got two of one name")
            size = sum([member.file_size for member in members])
        except Exception as error:  # a broken archive raises NotImplementedError, struct.error and others
            raise MalformedInput(f"not a readable .npz file of plain arrays: {error}") from error
        if max_bytes is not None and size > max_bytes:
            raise TooLarge(f"expected a .npz file of at most {max_bytes:,} bytes unpacked, got {size:,}")
        return cls(file, tuple(names), size)

    def read(self) -> dict[str, Array]:
        """Return every array by name; raises `MalformedInput`."""
        try:
            members = zip(self.names, self.file.infolist(), strict=True)
            return {name: read_member(self.file, member) for name, member in members}
        except MalformedInput as error:
            raise MalformedInput(f"not a readable .npz file: {error}") from error
        except Exception as error:  # zlib.error, NotImplementedError and others
            raise MalformedInput(f"not a readable .npz file of plain arrays: {error}") from error


def read_arrays(stream: BinaryIO) -> dict[str, Array]:
    """Read every array of a seekable `.npz` stream by name; raises `MalformedInput` as `read_array`."""
    return Archive.open(stream).read()


def member_headers(path: Path) -> dict[str, Header]:
    """Return the header of each array of a `.npz` file by name; raises any exception for a damaged file."""
    with path.open("rb") as stream:
        archive = Archive.open(stream)
        members = zip(archive.names, archive.file.infolist(), strict=True)
        return {name: read_header(archive.file.open(member)) for name, member in members}


def read_npz(stream: BinaryIO, path: Path = Path("the .npz file"), options: ReadOptions = NO_OPTIONS) -> Cutouts:
    """Read cutouts from a `.npz` stream with an array `images` and any columns.

    Raises `MalformedInput` as `read_arrays`, and `InvalidDataset` without images or for a column of another length.
    """
    return cutouts_of(read_arrays(stream), path, options)


def cutouts_of(arrays: Mapping[str, Array], path: Path, options: ReadOptions = NO_OPTIONS) -> Cutouts:
    """Return the cutouts in arrays by name; raises `InvalidDataset` without images, or for another length."""
    columns = dict(arrays)
    images = columns.pop(options.image_column(arrays, path))
    images = images[np.newaxis] if images.ndim == 3 else images  # of a single cutout
    attributes = {name: columns.pop(name) for name in NAMES if name in columns and columns[name].ndim < 2}
    for name, value in attributes.items():
        if value.nbytes > MAX_ATTRIBUTE_BYTES:
            message = f"{path} has {value.nbytes:,} bytes of {name}, expected at most {MAX_ATTRIBUTE_BYTES:,}"
            raise InvalidDataset(message)
    names, left_out = options.beside({name: values.shape for name, values in columns.items()}, images.shape)
    columns = {name: columns[name] for name in names}
    if not (attributes or left_out or columns.keys() - set(COLUMNS)):
        return Cutouts(images, columns)
    return from_attributes(images, columns, {"provenance": "", **attributes}, path, left_out=tuple(left_out))


def npz_bytes(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return the bytes of an uncompressed `.npz` file: noise does not compress."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
