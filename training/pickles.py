"""Reads pickles of labelled cutouts without executing anything in them.

A pickle calls the functions that it names, and not even numpy's own are safe: given a data type that wrongly claims to
hold no objects, `ndarray.__setstate__` takes bytes of the file for addresses. So calls are recorded while the pickle is
read, and arrays of numbers and text are made from the records afterwards.
"""

import copyreg
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset, MalformedInput
from photoz.io.cutouts import Column, check_lengths

# The functions with which numpy and Python pickle arrays, and the types of numbers and text, without objects or fields.
ADMITTED = re.compile(r"_codecs\.encode|numpy\.(dtype|ndarray|_?core\.\w+\.(_reconstruct|scalar|_frombuffer))")
PLAIN = re.compile(r"[biufSU][1-9][0-9]{0,8}")
EXPECTED = "expected numbers, 'images' (n, size, size, n_bands) and 'z_spec' (n,), as a dict or a pair of arrays"


@dataclass
class PickledObject:
    """A function that a pickle names, or a call of it with the state that the pickle gives to the result."""

    function: str
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __call__(self, *arguments: Any) -> "PickledObject":  # noqa: D102
        return PickledObject(self.function, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _RecordingUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> PickledObject:
        function = f"{module}.{name}"
        if not ADMITTED.fullmatch(function):
            raise pickle.UnpicklingError(f"it asks for {function!r:.100}")
        return PickledObject(function.rpartition(".")[2])


def read_pickle(path: Path) -> dict[str, Column]:
    """Read labelled cutouts from an uncompressed pickle of any protocol: a dict by name, or a pair (images, z_spec).

    Returns `images` (n, size, size, n_bands), `z_spec` (n,) and any other columns of n rows, which may be read-only.
    Raises `MalformedInput` for anything but numbers and text, and `InvalidDataset` for other arrays than these.
    """
    copyreg.clear_extension_cache()  # cached objects are returned without a call of find_class
    with path.open("rb") as stream:
        try:
            content = _RecordingUnpickler(stream, encoding="latin1").load()
        except Exception as error:  # malformed pickles raise anything: EOFError, KeyError, struct.error
            raise MalformedInput(f"expected a pickle of only numpy arrays: {error!r:.160}") from error
        if stream.read(1):
            raise InvalidDataset(f"{EXPECTED}; the file has more content after it")
    if isinstance(content, list | tuple) and len(content) == 2:
        content = dict(zip(("images", "z_spec"), content, strict=True))
    if not isinstance(content, dict):
        raise InvalidDataset(f"{EXPECTED}; got {type(content).__name__}")
    columns = {name: _column(name, value) for name, value in content.items()}
    for name, ndim in (("images", 4), ("z_spec", 1)):
        if name not in columns or columns[name].ndim != ndim or columns[name].dtype.kind not in "iuf":
            found = ", ".join(f"{name} ({array.dtype} of {array.shape})" for name, array in columns.items())
            raise InvalidDataset(f"{EXPECTED}; got {found}")
    check_lengths(columns["images"].shape, columns)
    return columns


def _column(name: object, value: object) -> Column:
    if not isinstance(name, str) or not name.isprintable() or "/" in name or name in ("", "."):  # as HDF5 needs it
        raise InvalidDataset(f"expected names of columns, got {name if isinstance(name, str) else type(name)!r:.80}")
    try:
        array = np.atleast_1d(_array(value))
        if array.dtype.hasobject:
            raise ValueError("expected numbers of at most 64 bits")
        text = np.char.decode(array.astype(np.bytes_), "utf-8") if array.dtype.kind == "S" else array
        if text.dtype.kind == "U" and b"\0" in "".join(text.ravel().tolist()).encode():
            raise ValueError("expected text without null characters")
        return text
    except (TypeError, ValueError, OverflowError, SystemError) as error:  # SystemError: invalid Unicode
        raise MalformedInput(f"{name!r} cannot be read: {error}") from error


def _array(value: object) -> Column:
    """Make an array from a record or from a flat list: nested lists may contain themselves."""
    kinds = set(map(type, value)) if isinstance(value, list | tuple) else set()
    match value:
        case list() | tuple() if kinds == {PickledObject}:
            return np.stack([_array(item) for item in value])
        case list() | tuple() if kinds <= {int, float, bool} or kinds == {str}:
            return np.array(value)
        case PickledObject("_frombuffer", (data, dtype, shape, order, *axes)):
            pass
        case PickledObject("_reconstruct", _, (_, shape, dtype, is_fortran, data)):
            order, axes = "F" if is_fortran else "C", []
        case PickledObject("scalar", (dtype, data)):
            shape, order, axes = (), "C", []
        case _:
            raise ValueError(f"expected an array or a flat list of one type, got {type(value).__name__}")
    match dtype:
        case PickledObject("dtype", (str(text), *_), (_, byte_order, None, None, None, *_)) if PLAIN.fullmatch(text):
            plain = np.dtype(text).newbyteorder(byte_order)
        case _:
            raise ValueError("expected an array of numbers or text")
    match data:
        case str(text) | PickledObject("encode", (str(text), "latin1" | "latin-1")):  # bytes, from Python 2 or for it
            data = text.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise ValueError(f"expected the bytes of an array, got {type(data).__name__}")
    array: Column = np.ndarray(shape, plain, data, order="F" if order == "F" else "C")
    if array.nbytes != len(data):
        raise ValueError(f"expected {array.nbytes:,} bytes for shape {array.shape} of {plain}, got {len(data):,}")
    return array.transpose(axes[0]) if any(axes) else array
