"""`.npy` and `.npz` files as request bodies."""

import io
from typing import Any

import numpy.typing as npt

from photoz.errors import MalformedInput
from photoz.io.npz import MAX_MEMBERS, read_array, read_arrays
from service.request import Request

Arrays = dict[str, npt.NDArray[Any]]

NPY_MAGIC, ZIP_MAGIC, ZIP_ENTRY = b"\x93NUMPY", b"PK\x03\x04", b"PK\x01\x02"


def is_npz(request: Request) -> bool:
    """Whether the body starts as a `.npz` file does."""
    return request.body.startswith(ZIP_MAGIC)


def decode(request: Request, max_bytes: int) -> Arrays:
    """Decode a `.npz` file, or a `.npy` file of images, that unpacks into at most `max_bytes`: arrays by name.

    Raises `MalformedInput` or `TooLarge`.
    """
    body = request.body
    if body.startswith(NPY_MAGIC):
        return {"images": read_array(io.BytesIO(body), len(body))}
    if not body.startswith(ZIP_MAGIC):
        raise MalformedInput(
            f"expected a .npy, .npz, FITS or HDF5 file, got {len(body)} bytes that start with {body[:6]!r}"
        )
    # Each entry of an archive's directory becomes an object of half a kB before zipfile counts them.
    if body.count(ZIP_ENTRY) > MAX_MEMBERS:
        raise MalformedInput(f"not a readable .npz file: expected at most {MAX_MEMBERS} arrays, got more")

    def reserve(size: int) -> None:
        request.reservation.reserve_unpacked(size, "a .npz file that unpacks into")

    return read_arrays(io.BytesIO(body), max_bytes, reserve)
