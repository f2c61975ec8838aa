"""Reads pickles of labelled cutouts without executing anything in them: names are mapped to functions of this file.

A pickle calls the functions that it names, and numpy's `dtype` and `ndarray.__setstate__` are not safe to call: with a
data type that wrongly claims to hold no objects, numpy takes bytes of the file for addresses. So the pickle fills
`_Dtype` and `_Stored` records, and the arrays are made from them after it is read.
"""

import copyreg
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, MalformedInput

Array = npt.NDArray[Any]

EXPECTED = "expected a dict of arrays by name, with 'images' and 'z_spec', or a pair (images, z_spec)"

# Booleans, numbers, bytes and text of a given size; no objects, fields or subarrays.
PLAIN = re.compile(r"[biufSU][1-9][0-9]{0,8}")

VERSIONS = (3, 4)  # of the state of a data type: numpy's since 2006, and the one with metadata

LATIN1 = ("latin1", "latin-1")


class _Dtype:
    """A data type in a pickle."""

    __slots__ = ("_order", "_text")

    def __init__(self, text: str, align: object = False, copy: object = True) -> None:
        if not isinstance(text, str) or not PLAIN.fullmatch(text):
            raise MalformedInput(f"expected arrays of numbers or text, got dtype {_short(text)}")
        self._text, self._order = text, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, order, *inner = state[:5]
        if version not in VERSIONS or order not in ("<", ">", "|", "=") or inner != [None, None, None]:
            raise MalformedInput(
                "expected arrays of numbers or text, got a dtype with fields, or of an unknown version"
            )
        self._order = order

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._text).newbyteorder(self._order)  # type: ignore[arg-type]


class _Stored:
    """An array, or one number, in a pickle."""

    __slots__ = ("_axes", "_data", "_dtype", "_order", "_shape")

    def __init__(self) -> None:
        self._fill((), None, b"")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self._fill(shape, dtype, data, "F" if is_fortran else "C")

    def _fill(self, shape: Any, dtype: Any, data: Any, order: Any = "C", axes: Any = None) -> "_Stored":
        self._shape, self._dtype, self._data, self._order, self._axes = shape, dtype, data, order, axes
        return self

    def array(self) -> Array:
        """Return a numpy array that is a view of the bytes."""
        if not isinstance(self._dtype, _Dtype):
            raise ValueError("expected an array with its dtype")
        data, dtype = _bytes(self._data), self._dtype.dtype()
        size = _count(self._shape) * dtype.itemsize
        if size != len(data):
            raise ValueError(f"expected {size:,} bytes for shape {self._shape} of {dtype}, got {len(data):,}")
        array: Array = np.ndarray(self._shape, dtype, data, order="F" if self._order == "F" else "C")
        return array if self._axes is None else array.transpose(self._axes)


def _bytes(data: object) -> bytes | bytearray:
    if isinstance(data, str):  # bytes in Python 2
        return data.encode("latin-1")
    if isinstance(data, bytes | bytearray):
        return data
    raise ValueError(f"expected the bytes of an array, got {type(data).__name__}")


def _count(shape: object) -> int:
    if not isinstance(shape, tuple) or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError("expected the shape of an array as lengths")
    return math.prod(shape)


def _reconstruct(kind: object, shape: object, code: object) -> _Stored:
    if kind is not NDARRAY:
        raise MalformedInput("expected arrays as numpy pickles them, got one of an unknown class")
    return _Stored()


def _scalar(dtype: object, data: object) -> _Stored:
    return _Stored()._fill((), dtype, data)


def _frombuffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> _Stored:
    return _Stored()._fill(shape, dtype, data, order, axes)


def _encode(text: object, codec: object) -> bytes:
    """Decode bytes as Python 3 writes them for Python 2; other codecs import modules and decompress."""
    if not isinstance(text, str) or codec not in LATIN1:
        raise MalformedInput(f"expected bytes of arrays as latin1, got the codec {_short(codec)}")
    return text.encode("latin-1")


def _ndarray(*_: object) -> None:
    raise MalformedInput("expected arrays as numpy pickles them, got a call of numpy.ndarray")


class _Function:
    """A function without settable state: a pickle could change the defaults of a plain function."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise MalformedInput("expected arrays as numpy pickles them, got a function with a state")


NDARRAY = _Function(_ndarray)

# By the names that numpy 1, numpy 2 and Python write.
ADMITTED: Mapping[tuple[str, str], _Function] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _Function(_Dtype),
    ("_codecs", "encode"): _Function(_encode),
} | {
    (f"numpy.{core}.{module}", name): _Function(call)
    for core in ("_core", "core")
    for module, name, call in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _frombuffer),
    )
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Function:
        if (module, name) not in ADMITTED:
            raise MalformedInput(f"expected a pickle of only numpy arrays; this one asks for {_short(module, name)}")
        return ADMITTED[module, name]

    def persistent_load(self, pid: object) -> None:
        raise MalformedInput("expected a pickle of only numpy arrays; this one refers to objects outside of it")


def _short(*parts: object) -> str:
    """Quote untrusted text: without control characters, and at most 60 characters of each word."""
    words = [part if isinstance(part, str) else type(part).__name__ for part in parts]
    return repr(".".join(word[:60] for word in words))


def read_pickle(path: Path) -> dict[str, Array]:
    """Read labelled cutouts from a pickle of plain numpy arrays, without executing anything in it.

    Parameters
    ----------
    path : Path
        A file with one pickle of any protocol, of Python 2 or 3, not compressed: a dict of arrays or flat lists by
        name, with `images` (n, size, size, n_bands), `z_spec` (n,) and any other columns of n rows; or a pair (images,
        z_spec).

    Returns
    -------
    dict
        Arrays of numbers or text by name; they may be read-only.

    Raises
    ------
    MalformedInput
        If it is not a pickle, or asks for anything but arrays of numbers and text.
    InvalidDataset
        If it holds something other than labelled cutouts.
    """
    arrays = {name: _as_array(name, value) for name, value in _named(_load(path)).items()}
    _check(arrays)
    return arrays


def _load(path: Path) -> object:
    copyreg.clear_extension_cache()  # cached objects are returned without a call of find_class
    with path.open("rb") as stream:
        try:
            content = _ArrayUnpickler(stream, encoding="latin1").load()
        except MalformedInput:
            raise
        except Exception as error:  # malformed pickles raise anything: EOFError, KeyError, struct.error
            found = f"{type(error).__name__}, {_short(str(error))}"
            raise MalformedInput(f"not a readable pickle of numpy arrays: {found}") from error
        if stream.read(1):
            raise InvalidDataset(f"{EXPECTED}; the file has more content after it")
    return content


def _named(found: object) -> Mapping[str, object]:
    if isinstance(found, list | tuple) and len(found) == 2:
        return {"images": found[0], "z_spec": found[1]}
    if not isinstance(found, dict):
        raise InvalidDataset(f"{EXPECTED}; got {_kind(found)}")
    for name in found:
        # A slash means a group in HDF5.
        if not isinstance(name, str) or not name.isprintable() or "/" in name or name in ("", "."):
            raise InvalidDataset(f"expected names of columns, got {_short(name)}")
    return found


def _kind(found: object) -> str:
    match found:
        case _Stored():
            return "one array"
        case list() | tuple():
            return f"a {type(found).__name__} of {len(found)}"
        case _:
            return type(found).__name__


def _as_array(name: str, value: object) -> Array:
    if not isinstance(value, _Stored | list | tuple):
        raise InvalidDataset(f"expected {name!r} as an array or a list, got {_kind(value)}")
    try:
        array = value.array() if isinstance(value, _Stored) else _joined(value)
        return _text(array) if array.dtype.kind in "SU" else array
    except (TypeError, ValueError, OverflowError, SystemError) as error:  # SystemError: invalid Unicode
        raise MalformedInput(f"{name!r} cannot be read: {error}") from error


def _joined(values: list[Any] | tuple[Any, ...]) -> Array:
    """Make an array from a flat list; nested lists are refused, since they may contain themselves."""
    kinds = set(map(type, values))
    if kinds == {_Stored}:
        return np.stack([value.array() for value in values])
    if not kinds or not (kinds <= {int, float, bool} or kinds == {str}):
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        raise ValueError(f"expected a list of numbers, of text or of arrays of one shape, got a list of {found}")
    array = np.array(values)
    if array.dtype.hasobject:
        raise ValueError("expected numbers of at most 64 bits")
    return array


def _text(array: Array) -> Array:
    """Check and decode text for HDF5: UTF-8 without null characters."""
    text = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    if any(b"\0" in word.encode() for word in text.ravel().tolist()):
        raise ValueError("expected text without null characters")
    return text


def _check(arrays: Mapping[str, Array]) -> None:
    if missing := {"images", "z_spec"} - arrays.keys():
        raise InvalidDataset(f"{EXPECTED}; {missing.pop()!r} is missing, there are {', '.join(arrays) or 'none'}")
    images, z_spec = arrays["images"], arrays["z_spec"]
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.dtype.kind not in "iuf":
        raise InvalidDataset(
            f"expected images as numbers of shape (n, size, size, n_bands), got {images.dtype} of {images.shape}"
        )
    if z_spec.ndim != 1 or z_spec.dtype.kind not in "iuf":
        raise InvalidDataset(f"expected z_spec as numbers of shape (n,), got {z_spec.dtype} of {z_spec.shape}")
    for name, values in arrays.items():
        if not values.ndim or len(values) != len(images):
            raise InvalidDataset(f"expected {len(images)} values of {name!r}, one for each cutout, got {values.shape}")
