"""Read arrays from `.npy` and `.npz` files of unknown origin.

Unlike numpy's readers, these do not trust the file: they never allocate more memory than there are bytes to read,
unpack no member by a method without an output limit (bzip2, LZMA), and never unpickle.
"""

import io
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, MalformedInput, PhotozError, TooLarge
from photoz.io.cutouts import Cutouts, check_lengths

Array = npt.NDArray[Any]

HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# The methods that numpy writes. Python unpacks no more than was asked for with these methods only.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

MAX_MEMBERS = 64
MAX_HEADER_BYTES = 10_000  # of a .npy file

# What a header consists of. numpy's parser takes nearly any expression, and prints warnings of some.
HEADER_GRAMMAR = re.compile(r"(?:'[^'\\\n]*'|True|False|-?[0-9]+L?(?![0-9A-Za-z_])|[][{}(),: \n])*")

READ_SIZE = 2**18  # bytes; they stay in the processor's cache until they are copied


def read_array(stream: BinaryIO | IO[bytes], n_bytes: int) -> Array:
    """Read the array of a `.npy` stream of n_bytes bytes.

    Raises
    ------
    MalformedInput
        If it is not a complete `.npy` file of numbers or text. Python objects are refused, never unpickled.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in HEADER_READERS:
            raise ValueError(f"expected version 1.0 or 2.0, got {'.'.join(map(str, version))}")
        shape, fortran, dtype = HEADER_READERS[version](_checked_header(stream, version))
        size = _size(shape, dtype)
        if size != n_bytes - stream.tell():
            raise ValueError(f"expected {size:,} bytes for shape {shape}, got {n_bytes - stream.tell():,}")
        return np.ndarray(shape, dtype, _bytes(stream, size), order="F" if fortran else "C")
    except Exception as error:  # a broken header raises any exception of its parser, such as tokenize.TokenError
        raise MalformedInput(f"not a readable .npy file of numbers: {error}") from error


def _checked_header(stream: BinaryIO | IO[bytes], version: tuple[int, int]) -> BinaryIO:
    """Return the header of a `.npy` stream, with its length, if it consists of what plain arrays need."""
    prefix = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(prefix, "little")
    header = stream.read(min(length, MAX_HEADER_BYTES))
    if length > MAX_HEADER_BYTES or not HEADER_GRAMMAR.fullmatch(header.decode("latin-1")):
        raise ValueError("its header has expressions or field names that are not read here")
    return io.BytesIO(prefix + header)


def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"expected numbers or text, got dtype {dtype}; nothing is unpickled (allow_pickle=False)")
    if any(length < 0 for length in shape):
        raise ValueError(f"expected no negative length, got shape {shape}")
    return math.prod(shape) * dtype.itemsize


def _bytes(stream: BinaryIO | IO[bytes], size: int) -> Array:
    """Read bytes in parts, because `zipfile` holds twice of what is read at once."""
    content = np.empty(size, np.uint8)
    for start in range(0, size, READ_SIZE):
        part = stream.read(min(size - start, READ_SIZE))
        if len(part) < min(size - start, READ_SIZE):
            raise ValueError(f"expected {size:,} bytes, got {start + len(part):,}")
        content[start : start + len(part)] = np.frombuffer(part, np.uint8)
    return content


def read_arrays(
    stream: BinaryIO, max_bytes: int | None = None, reserve: Callable[[int], None] = lambda size: None
) -> dict[str, Array]:
    """Read every array of a `.npz` stream.

    Parameters
    ----------
    stream : binary file, seekable
        The `.npz` file.
    max_bytes : int, optional
        Limit on the unpacked size of all members together.
    reserve : callable
        Called with the unpacked size before anything is unpacked; an exception that it raises is passed on.

    Returns
    -------
    dict
        Arrays by name.

    Raises
    ------
    MalformedInput
        If it is not a `.npz` file of numbers and text. Python objects are refused, never unpickled.
    TooLarge
        If it is over `max_bytes`; raised before anything is unpacked.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            reserve(_checked_size(members, max_bytes))
            return {_name(member): _read_member(archive, member) for member in members}
    except MalformedInput as error:
        raise MalformedInput(f"not a readable .npz file: {error}") from error
    except PhotozError:
        raise
    except Exception as error:  # a broken archive raises zlib.error, NotImplementedError, struct.error and others
        raise MalformedInput(f"not a readable .npz file of plain arrays: {error}") from error


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _checked_size(members: list[zipfile.ZipInfo], max_bytes: int | None) -> int:
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"expected at most {MAX_MEMBERS} arrays, got {len(members):,}")
    if len(set(map(_name, members))) < len(members):
        raise ValueError("expected each array once, got two of one name")
    for member in members:
        check_method(member)
    size = sum(member.file_size for member in members)
    if max_bytes is not None and size > max_bytes:
        raise TooLarge(f"expected a .npz file of at most {max_bytes:,} bytes unpacked, got {size:,}")
    return size


def check_method(member: zipfile.ZipInfo) -> None:
    """Raise `ValueError` if a member of an archive is packed by a method without an output limit."""
    if member.compress_type not in METHODS:
        raise ValueError(f"expected arrays stored or deflated, got zip method {member.compress_type}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as stream:
        try:
            return read_array(stream, member.file_size)
        except MalformedInput as error:
            raise MalformedInput(f"{_name(member)[:40]} is {error}") from error


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Map the array of a `.npy` file into memory; raises `MalformedInput` if it cannot be read."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # see read_array
        raise MalformedInput(f"not a readable .npy file of numbers: {error}") from error


def read_npz(stream: BinaryIO) -> Cutouts:
    """Read cutouts from a `.npz` stream with an array `images` and any columns.

    Raises
    ------
    MalformedInput
        If it is not a `.npz` file of numbers and text.
    InvalidDataset
        If it has no images, or a column of another length.
    """
    columns = read_arrays(stream)
    if "images" not in columns:
        raise InvalidDataset(f"expected an array 'images' in the .npz file; it holds {', '.join(columns) or 'none'}")
    images = columns.pop("images")
    check_lengths(images.shape, columns)
    return Cutouts(images, columns)


def npz_bytes(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return the bytes of an uncompressed `.npz` file: noise does not compress."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
