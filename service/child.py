"""What a child process does with its job, and the form of jobs and results.

A job, or a result, is a line of JSON with the dtype and shape of each array, and then the bytes of these.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def write_arrays(stream: IO[bytes], head: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a line of JSON and the bytes of arrays, as `split_arrays` takes them."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    stream.write(head_line(head, contiguous))
    for array in contiguous.values():
        stream.write(as_bytes(array))


def head_line(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return the line of JSON that goes before the bytes of arrays."""
    described = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    return json.dumps({**head, "arrays": described}).encode() + b"\n"


def as_bytes(array: Array) -> memoryview:
    """Return the bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def split_arrays(content: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the JSON and, without a copy, the arrays that a child has written."""
    start = content.index(b"\n") + 1
    head = json.loads(content[:start])
    arrays = {}
    for name, (dtype, shape) in head.pop("arrays").items():
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(content, dtype, count, start).reshape(shape)
        start += arrays[name].nbytes
    return head, arrays


def start_child() -> tuple[dict[str, Any], dict[str, Array]]:
    """Begin, in the child: let predictions go first, end with the parent, and return the job and its arrays."""
    os.nice(10)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job = json.loads(sys.stdin.buffer.readline())
    return job, {name: _read_array(*described) for name, described in job.pop("arrays").items()}


def _read_array(dtype: str, shape: list[int]) -> Array:
    array = np.empty(shape, dtype)
    content = array.reshape(-1).view(np.uint8)
    if (n := sys.stdin.buffer.readinto(content)) < len(content):  # type: ignore[attr-defined]
        raise EOFError(f"expected {len(content)} bytes, got {n}")
    return array


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # the result would not be read
