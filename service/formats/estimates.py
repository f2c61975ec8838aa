"""Estimates and cutouts as response bodies."""

import io
from dataclasses import replace
from http import HTTPStatus

import numpy as np
from starlette.responses import Response

from photoz.io import formats
from photoz.io.formats import FORMATS
from photoz.io.npz import npz_bytes
from photoz.io.provenance import now
from photoz.io.tables import ResultTable, json_bytes
from photoz.io.writer import WRITERS
from photoz.validation import Arrays
from service.errors import RequestError

# Bytes that a number takes while it is written as text: a Python object, its place in a list, and its digits.
TEXT_BYTES = 60

# Bytes that a number takes in the other formats: the table, its bytes, and a copy of these.
BINARY_BYTES = 24

BYTES_PER_NUMBER = {
    format.media_type: TEXT_BYTES if format in (formats.JSON, formats.CSV, formats.JSON_LINES) else BINARY_BYTES
    for format in FORMATS
    if format.written
} | {formats.NPZ.media_type: 8}

WRITERS_BY_TYPE = {format.media_type: writer for format, writer in WRITERS.items()}

# Columns that are kept of a file of cutouts.
CUTOUT_COLUMNS = ("ebv", "object_id", "z_spec", "ra", "dec")


def encode_estimates(table: ResultTable, media_type: str) -> Response:
    """Encode a table; raises `RequestError` (406) if the package that writes the format is missing."""
    if media_type == formats.JSON.media_type:
        return Response(json_bytes(table), media_type=media_type)
    buffer = io.BytesIO()
    try:
        WRITERS_BY_TYPE[media_type](replace(table, provenance=replace(table.provenance, date=now())), buffer)
    except ImportError as error:
        message = f"cannot answer as {media_type} here: the service lacks {error.name}"
        raise RequestError(HTTPStatus.NOT_ACCEPTABLE, message) from error
    return Response(buffer.getvalue(), media_type=media_type)


def encode_cutouts(arrays: Arrays) -> Response:
    """Encode validated arrays of a file as a `.npz` file: `images` in float32, and columns (n,)."""
    images = np.asarray(arrays["images"], np.float32)
    images = images[np.newaxis] if images.ndim == 3 else images
    columns = {name: arrays[name] for name in CUTOUT_COLUMNS if name in arrays and arrays[name].shape == (len(images),)}
    return Response(npz_bytes({"images": images, **columns}), media_type=formats.NPZ.media_type)
