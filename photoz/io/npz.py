"""Arrays from the bytes of `.npy` and `.npz` files that nobody vouches for.

numpy's own readers take a file at its word: they make room for whatever shape a header names, unpack members of an
archive by methods that know no limit (bzip2, LZMA), and give bytes for a member that is no array. These do not.
"""

import io
import math
import os
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

# numpy writes no others, and of these alone Python unpacks no more than is asked for.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

MAX_MEMBERS = 64

READ_SIZE = 2**18  # bytes; they stay in the processor's cache until they are copied


def read_array(stream: BinaryIO | IO[bytes], n_bytes: int) -> Array:
    """Read the array of an open `.npy` stream.

    Parameters
    ----------
    stream : binary file
        At its beginning.
    n_bytes : int
        How many bytes there are to read.

    Returns
    -------
    ndarray
        No larger than what was there to read.

    Raises
    ------
    MalformedInput
        If it is not a whole `.npy` file of numbers or text. Python objects are refused, never unpickled.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in HEADER_READERS:
            raise ValueError(f"expected version 1.0 or 2.0, got {'.'.join(map(str, version))}")
        shape, fortran, dtype = HEADER_READERS[version](stream)
        size = _size(shape, dtype)
        if size > n_bytes - stream.tell():
            raise ValueError(f"expected {size:,} bytes for shape {shape}, got {n_bytes - stream.tell():,}")
        return np.ndarray(shape, dtype, _bytes(stream, size), order="F" if fortran else "C")
    except Exception as error:  # a broken header raises whatever its parser meets, tokenize.TokenError among others
        raise MalformedInput(f"not a readable .npy file of numbers: {error}") from error


def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"expected numbers or text, got dtype {dtype}; nothing is unpickled (allow_pickle=False)")
    if any(length < 0 for length in shape):
        raise ValueError(f"expected no negative length, got shape {shape}")
    return math.prod(shape) * dtype.itemsize


def _bytes(stream: BinaryIO | IO[bytes], size: int) -> Array:
    """Read so many bytes, in parts: asked for all at once, `zipfile` holds them twice."""
    content = np.empty(size, np.uint8)
    for start in range(0, size, READ_SIZE):
        wanted = min(size - start, READ_SIZE)
        part = stream.read(wanted)
        if len(part) < wanted:
            raise ValueError(f"expected {size:,} bytes, got {start + len(part):,}")
        content[start : start + wanted] = np.frombuffer(part, np.uint8)
    return content


def read_arrays(
    stream: BinaryIO, max_bytes: int | None = None, reserve: Callable[[int], None] = lambda size: None
) -> dict[str, Array]:
    """Read every array of an open `.npz` stream.

    Parameters
    ----------
    stream : binary file, seekable
        The archive.
    max_bytes : int, optional
        What its members may take when unpacked, all together.
    reserve : callable
        Told, before anything is unpacked, what that will be; what it raises ends it.

    Returns
    -------
    dict
        Arrays by name.

    Raises
    ------
    MalformedInput
        If it is not a `.npz` file of plain arrays. Python objects in it are refused, never unpickled.
    TooLarge
        If it would take more than `max_bytes`; told before anything is unpacked.
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
    except Exception as error:  # a broken archive raises anything: zlib.error, NotImplementedError, struct.error
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
    """Raise `ValueError` if a member of an archive is packed by a method that may unpack without limit."""
    if member.compress_type not in METHODS:
        raise ValueError(f"expected arrays stored or deflated, got zip method {member.compress_type}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as stream:
        try:
            return read_array(stream, member.file_size)
        except MalformedInput as error:
            raise MalformedInput(f"{_name(member)[:40]} is {error}") from error


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Map the array of a `.npy` file into memory; raises `MalformedInput` if it is none."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # a broken header raises whatever its parser meets, tokenize.TokenError among others
        raise MalformedInput(f"not a readable .npy file of numbers: {error}") from error


def read_npy(stream: BinaryIO) -> Cutouts:
    """Read images from an open `.npy` stream.

    Parameters
    ----------
    stream : binary file, seekable
        Without Python objects in it: those are refused, never unpickled.

    Returns
    -------
    Cutouts
        Images alone.

    Raises
    ------
    MalformedInput
        If it is not a `.npy` file of numbers.
    """
    n_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return Cutouts(read_array(stream, n_bytes), {})


def read_npz(stream: BinaryIO) -> Cutouts:
    """Read cutouts from an open `.npz` stream.

    Parameters
    ----------
    stream : binary file, seekable
        With an array `images`, and any of `COLUMNS`.

    Returns
    -------
    Cutouts
        In memory.

    Raises
    ------
    MalformedInput
        If it is not a `.npz` file of plain arrays.
    InvalidDataset
        If it holds no images, or a column of another length.
    """
    columns = read_arrays(stream)
    if "images" not in columns:
        raise InvalidDataset(f"expected an array 'images' in the .npz file; it holds {', '.join(columns) or 'none'}")
    images = columns.pop("images")
    check_lengths(images.shape, columns)
    return Cutouts(images, columns)


def npz_bytes(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Pack arrays as the bytes of an uncompressed `.npz` file: noise does not compress."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
