"""Request bodies to arrays: first the memory is reserved that this takes, then they are decoded."""

import io
import math
from operator import attrgetter
from pathlib import Path

import numpy as np

from photoz.errors import MalformedInput, TooLarge
from photoz.io.attributes import NAMES
from photoz.io.layout import conform
from photoz.io.npz import MAX_MEMBERS, Archive, cutouts_of, view_array
from photoz.validation import Arrays
from service import files
from service.files import FileReader
from service.formats.json import estimate_memory
from service.limits import MAX_JSON_BYTES
from service.request import Request
from service.steps import run_step, span

NPY_MAGIC, ZIP_MAGIC, ZIP_ENTRY = b"\x93NUMPY", b"PK\x03\x04", b"PK\x01\x02"


async def read_file(request: Request, reader: FileReader, max_bytes: int) -> Arrays:
    """Return the arrays of a file by name: `.npy`, FITS, HDF5, or `.npz` that unpacks into at most `max_bytes`.

    Images are in the layout of the model that the reader is for.
    """
    body, archive = await run_step("join", request.received_bytes, attrgetter("body"), request), None
    if body.startswith(ZIP_MAGIC):
        # Each entry of the directory becomes an object of half a kB before zipfile counts them.
        if await run_step("count", len(body), body.count, ZIP_ENTRY) > MAX_MEMBERS:
            raise MalformedInput(f"not a readable .npz file: expected at most {MAX_MEMBERS} arrays, got more")
        archive = Archive.open(io.BytesIO(body), max_bytes)
    await reserve_decoding(request, archive=archive)
    if archive is not None:
        arrays = await run_step("decode", archive.unpacked_bytes, archive.read)
        return await _conformed(request, arrays, reader)
    if body.startswith(NPY_MAGIC):
        with span("decode"):
            arrays = {"images": view_array(body)}
        return await _conformed(request, arrays, reader)
    if body.startswith(files.MAGICS):
        with span("decode"):
            return await reader.read(request)
    raise MalformedInput(
        f"expected a .npy, .npz, FITS or HDF5 file, got {len(body)} bytes that start with {body[:6]!r}"
    )


async def _conformed(request: Request, arrays: Arrays, reader: FileReader) -> Arrays:
    """Bring the images of a `.npy` or `.npz` file into the layout of the model; other arrays are kept."""
    if "images" not in arrays or "pdfs" in arrays:  # which do not go together
        return arrays
    images = arrays["images"]
    n = len(images) if images.ndim == 4 else 1
    # Columns of another length are refused later; those that describe the images may have any.
    others = {k: v for k, v in arrays.items() if v.ndim and len(v) != n and k not in (*NAMES, "images")}
    cutouts = cutouts_of({k: v for k, v in arrays.items() if k not in others}, Path("the file"))
    conformed, request.reading = conform(cutouts, reader.spec)
    if isinstance(conformed.images, np.ndarray):
        images = conformed.images
    else:
        size = images.dtype.itemsize * math.prod(conformed.images.shape)
        request.memory.reserve(request, size)
        images = await run_step("convert", size, conformed.images.__getitem__, slice(None))
    return {"images": images, **conformed.columns, **others}


async def reserve_decoding(request: Request, *, n_json: int = 0, archive: Archive | None = None) -> None:
    """Reserve the memory for decoding; pass `archive` for a .npz file, `n_json` for leading bytes of JSON."""
    size = 0  # the arrays of other bodies are views of them
    if n_json > MAX_JSON_BYTES:
        raise TooLarge(f"expected at most {MAX_JSON_BYTES:,} bytes of JSON, got {n_json:,}: send them as binary")
    if n_json:
        content = await run_step("join", n_json, request.first_bytes, n_json)
        size = await run_step("reserve", n_json, estimate_memory, content)
    elif archive is not None:
        size = archive.unpacked_bytes
    elif request.body.startswith(files.MAGICS):  # a copy is sent to the child, and the arrays come back
        size = (2 + files.FACTOR) * request.received_bytes
    request.memory.reserve(request, size)


def reserve_conversion(request: Request, arrays: Arrays, answer_bytes: int = 0) -> None:
    """Reserve memory for the answer, float32 cutouts, and PDFs as float64, here and in a child."""
    images, pdfs, size = arrays.get("images"), arrays.get("pdfs"), answer_bytes
    if images is not None and images.dtype != np.float32:
        size += 4 * images.size
    if pdfs is not None:
        size += 4 * 8 * pdfs.size
    request.memory.reserve(request, size)
