"""Tensors of the Open Inference Protocol v2, as bytes and as JSON.

As bytes, numbers are little-endian and row-major. Text has the datatype `BYTES`: each element is its length in four
bytes, then UTF-8 (Triton's docs/protocol/extension_binary_data.md). In JSON, NaN is null.
"""

import math
import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidInput, MalformedInput

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

BYTES = "BYTES"
NUMBERS: Mapping[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
}
_NAMES = {dtype: name for name, dtype in NUMBERS.items()}

# JSON elements by kind of dtype: types, and words for them. In Python a bool is an int, but no datatype accepts one.
_ELEMENTS: Mapping[str, tuple[set[type], str]] = {
    "f": ({float, int, type(None)}, "numbers or null"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "O": ({str}, "text"),
}


class Tensor(NamedTuple):
    """A named array."""

    name: str
    datatype: str  # one of `NUMBERS`, or `BYTES`
    array: Array  # numbers; for `BYTES` text, of dtype U or str objects

    @classmethod
    def of(cls, name: str, array: Array) -> "Tensor":
        """Name an array, with the datatype of its dtype; raises `InvalidInput` if there is none."""
        if array.dtype.kind in "UTO":
            return cls(name, BYTES, array)
        datatype = _NAMES.get(array.dtype.newbyteorder("<"))
        if datatype is None:
            raise InvalidInput(f"expected {name} as one of {', '.join(NUMBERS)} or as text, got dtype {array.dtype}")
        return cls(name, datatype, array)


def to_bytes(tensor: Tensor) -> bytes | memoryview:
    """Encode a tensor as bytes: a view of its array, not a copy, if dtype and layout are right."""
    if tensor.datatype == BYTES:
        texts = (str(text).encode() for text in tensor.array.flat)
        return b"".join(chain.from_iterable((struct.pack("<I", len(text)), text) for text in texts))
    array = np.ascontiguousarray(tensor.array, NUMBERS[tensor.datatype])
    return array.data.cast("B") if array.size else b""


def from_bytes(data: memoryview, name: str, datatype: str, shape: Shape) -> Tensor:
    """Decode a tensor from its bytes. Numbers are a read-only view of these if they are aligned.

    Raises `MalformedInput` if datatype, shape and bytes do not agree.
    """
    if datatype == BYTES:
        return Tensor(name, BYTES, _shaped(_read_texts(data, name, math.prod(shape)), name, shape))
    dtype = NUMBERS[datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise MalformedInput(f"{name}: {datatype} of shape {shape} is {expected:,} bytes, got {len(data):,}")
    array = np.frombuffer(data, dtype)
    return Tensor(name, datatype, _shaped(array if array.flags.aligned else array.copy(), name, shape))


def to_list(tensor: Tensor) -> list[Any]:
    """Encode a tensor as a flat list for JSON."""
    if tensor.datatype == BYTES:
        return [str(text) for text in tensor.array.flat]
    flat: list[Any] = tensor.array.astype(NUMBERS[tensor.datatype], copy=False).ravel().tolist()
    return flat


def from_list(data: Any, name: str, datatype: str, shape: Shape) -> Tensor:
    """Decode a tensor from a JSON list, flat or nested as the shape says; null is NaN, text becomes str objects.

    Raises `MalformedInput` if datatype, shape and data do not agree.
    """
    flat = _flattened(data, name, shape)
    return Tensor(name, datatype, _shaped(_array(flat, name, datatype), name, shape))


def _read_texts(data: memoryview, name: str, n: int) -> Array:
    texts: list[str] = []
    start = 0
    try:
        while start < len(data):
            if len(texts) == n:
                raise MalformedInput(f"{name}: expected {n:,} elements, got {len(data) - start:,} bytes more")
            end = start + 4 + struct.unpack_from("<I", data, start)[0]
            if end > len(data):
                raise MalformedInput(f"{name}: element {len(texts)} is longer than the remaining bytes")
            texts.append(str(data[start + 4 : end], "utf-8"))
            start = end
    except struct.error as error:
        raise MalformedInput(f"{name}: expected the length of element {len(texts)} in four bytes: {error}") from error
    except UnicodeDecodeError as error:
        raise MalformedInput(f"{name}: expected UTF-8 text, got other bytes: {error}") from error
    return np.array(texts, dtype=object)


def _flattened(data: Any, name: str, shape: Shape) -> list[Any]:
    if not isinstance(data, list):
        raise MalformedInput(f"{name}: expected data as a list, got a {type(data).__name__}")
    flat, nesting = data, [len(data)]
    while set(map(type, flat)) == {list}:
        lengths = set(map(len, flat))
        if len(lengths) > 1:
            raise MalformedInput(f"{name}: data do not form a regular array")
        nesting += lengths
        flat = list(chain.from_iterable(flat))
    if tuple(nesting) not in (shape, (math.prod(shape),)):
        raise MalformedInput(f"{name}: expected data of shape {shape}, nested or flat, got {tuple(nesting)}")
    return flat


def _array(flat: list[Any], name: str, datatype: str) -> Array:
    dtype: np.dtype[Any] = np.dtype(object) if datatype == BYTES else NUMBERS[datatype]
    types, words = _ELEMENTS[dtype.kind]
    if others := set(map(type, flat)) - types:
        raise MalformedInput(f"{name}: expected {words} as data, got a {min(kind.__name__ for kind in others)}")
    if flat and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not (limits.min <= min(flat) and max(flat) <= limits.max):
            raise MalformedInput(f"{name}: expected {datatype}, {limits.min} to {limits.max}, got a number beyond")
    try:
        with np.errstate(over="ignore"):  # a number beyond the datatype becomes infinite
            return np.array(flat, dtype=dtype)
    except OverflowError as error:  # a whole number beyond float64
        raise MalformedInput(f"{name}: expected {datatype}: {error}") from error


def _shaped(array: Array, name: str, shape: Shape) -> Array:
    if len(array) != math.prod(shape):
        raise MalformedInput(f"{name}: shape {shape} has {math.prod(shape):,} elements, got {len(array):,}")
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # more dimensions, or longer empty ones, than numpy supports
        raise MalformedInput(f"{name}: no array has shape {shape}: {error}") from error
