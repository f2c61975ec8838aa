"""Content negotiation: media types of requests and responses, and options in the query string."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
from pydantic import BaseModel
from starlette.responses import Response

from photoz.errors import InvalidInput, MalformedInput, UnsupportedType
from photoz.estimates import Estimates
from photoz.grid import RedshiftGrid
from photoz.io import tables
from photoz.io.astropy_table import write_fits, write_votable
from photoz.io.hdf5 import write_hdf5
from photoz.io.npz import npz_bytes
from photoz.io.parquet import write_parquet
from photoz.io.qp_ensemble import write_qp
from photoz.io.tables import ResultTable
from photoz.protocol import contract
from service.formats import json, npz
from service.formats.json import validated
from service.middleware.errors import NotAcceptable
from service.offload import SMALL
from service.request import Request

# curl sends --data and --data-binary as a form unless it is given a type.
FORM = "application/x-www-form-urlencoded"
OCTETS = "application/octet-stream"
JSON_TYPES = ("", contract.JSON, FORM)
FILE_TYPES = ("", OCTETS, contract.NPY, contract.NPZ, contract.FITS, contract.HDF5, FORM)

# Bytes of a number that is written as text: a Python object, its place in a list, and its digits.
TEXT_BYTES = 60

# Bytes of a number in the other formats: the table, its bytes, and a copy of these.
BINARY_BYTES = 24

# Writers of tables, each of which needs the package that it imports.
WRITERS: Mapping[str, Callable[[ResultTable, BinaryIO], None]] = {
    contract.FITS: write_fits,
    contract.VOTABLE: write_votable,
    contract.HDF5: write_hdf5,
    contract.PARQUET: write_parquet,
    contract.QP: write_qp,
}
PREDICTIONS = (contract.JSON, contract.CSV, contract.NPZ, contract.JSON_LINES, *WRITERS)

M = TypeVar("M", bound=BaseModel)


def decode_json(request: Request) -> tuple[npz.Arrays, contract.PredictOptions]:
    """Decode a request of `/predict`: arrays by name, and the options; raises as `json.decode`."""
    _check_type(request, JSON_TYPES, "/predict_file reads files")
    if request.query:
        raise InvalidInput(f"expected the options in the JSON body, got ?{next(iter(request.query))} in the address")
    message = json.decode(request.body, contract.PredictRequest)
    return json.as_arrays(message), contract.PredictOptions(pdf=message.pdf)


def decode_position(request: Request) -> contract.SkyRequest:
    """Decode a request of `/sky`; raises as `decode_json`."""
    _check_type(request, JSON_TYPES, "/cutouts reads files")
    return json.decode(request.body, contract.SkyRequest)


def decoding_work(request: Request) -> int:
    """Return how long decoding a file takes, in bytes; what a .npz file unpacks into is not known before."""
    size = request.received_bytes
    return SMALL + 1 if size <= SMALL and npz.is_npz(request) else size


def file_options(request: Request) -> contract.PredictOptions:
    """Return the options of a request of `/predict_file`; raises `UnsupportedType` or `InvalidInput`."""
    _check_type(request, FILE_TYPES, "/predict reads JSON")
    return query_options(request, contract.PredictOptions)


def check_file(request: Request) -> None:
    """Raise `UnsupportedType` if the body of a request is no file, `InvalidInput` if it has options."""
    _check_type(request, FILE_TYPES, "")
    if request.query:
        raise InvalidInput(f"expected no options, got ?{next(iter(request.query))}")


def check_evaluation_type(request: Request) -> None:
    """Raise `UnsupportedType` if the body of a request of `/evaluate` is neither JSON nor a file."""
    _check_type(request, (*JSON_TYPES, *FILE_TYPES), "")


def decode_evaluation(request: Request, max_bytes: int) -> npz.Arrays:
    """Decode a request of `/evaluate`: JSON, or a `.npz` file with the same names, that unpacks into `max_bytes`.

    Raises `MalformedInput`, `TooLarge` or `InvalidInput`.
    """
    if npz.is_npz(request):
        return npz.decode(request, max_bytes)
    if request.media_type in FILE_TYPES[1:-1]:
        raise MalformedInput("expected a file with z_spec and either images or pdfs (.npz), got other bytes")
    return json.as_arrays(json.decode(request.body, contract.EvaluateRequest))


def query_options(request: Request, model: type[M]) -> M:
    """Read the query string; raises `InvalidInput` for an option, or a value, that `model` does not have."""
    if unknown := sorted(set(request.query) - set(model.model_fields)):
        raise InvalidInput(f"there is no option ?{unknown[0]}; expected any of {', '.join(model.model_fields)}")
    return validated(model, request.query, strict=False)


def _check_type(request: Request, expected: tuple[str, ...], advice: str) -> None:
    if request.content_encoding:
        raise UnsupportedType(
            f"cannot read Content-Encoding {request.content_encoding[:40]} here: expected the body as it is; only the "
            "inference of /v2 takes gzip and deflate"
        )
    if request.media_type not in expected:
        names = ", ".join(dict.fromkeys(name for name in expected if name not in ("", FORM)))
        found = f"cannot read {request.media_type}: expected {names}"
        raise UnsupportedType(f"{found} ({advice})" if advice else found)


def encode_predictions(estimates: Estimates, media_type: str, model_label: str, grid: RedshiftGrid) -> Response:
    """Encode estimates as one of `PREDICTIONS`; raises `NotAcceptable` if the package that writes it is missing."""
    if media_type in WRITERS:
        return Response(
            _written(ResultTable(dict(estimates.columns()), model_label, grid), media_type), media_type=media_type
        )
    match media_type:
        case contract.CSV:
            content = tables.csv_bytes(estimates)
        case contract.NPZ:
            content = npz_bytes(dict(estimates.columns()))
        case contract.JSON_LINES:
            content = tables.json_lines_bytes(estimates)
        case _:
            content = tables.json_bytes(estimates, model_label)
    return Response(content, media_type=media_type)


# Columns that are kept of a file of cutouts.
CUTOUT_COLUMNS = ("ebv", "object_id", "z_spec", "ra", "dec")


def encode_cutouts(arrays: npz.Arrays) -> Response:
    """Encode the arrays of a file, which `as_batch` takes, as a `.npz` file: `images` in float32, and columns (n,)."""
    images = np.asarray(arrays["images"], np.float32)
    images = images[np.newaxis] if images.ndim == 3 else images
    columns = {name: arrays[name] for name in CUTOUT_COLUMNS if name in arrays and arrays[name].shape == (len(images),)}
    return Response(npz_bytes({"images": images, **columns}), media_type=contract.NPZ)


def _written(table: ResultTable, media_type: str) -> bytes:
    buffer = io.BytesIO()
    try:
        WRITERS[media_type](table, buffer)
    except ImportError as error:
        raise NotAcceptable(f"cannot answer as {media_type} here: the service lacks {error.name}") from error
    return buffer.getvalue()


def answer_memory(n_values: int, media_type: str) -> int:
    """Return the bytes that so many numbers of an answer take while they are encoded."""
    return n_values * (8 if media_type == contract.NPZ else BINARY_BYTES if media_type in WRITERS else TEXT_BYTES)


def evaluation_types(options: contract.EvaluateOptions) -> tuple[str, ...]:
    """Return the media types that an evaluation can be answered with."""
    plots = (contract.PNG, contract.SVG)
    return plots if options.plot else (contract.JSON, contract.HTML, *plots)


def negotiate(accept: str, offered: Sequence[str]) -> str:
    """Choose the offered media type of the highest quality in an Accept header; of equals, the first.

    RFC 9110, sec. 12.5.1. Raises `NotAcceptable` if the client accepts none.
    """
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    quality = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(offered, key=quality.__getitem__)
    if quality[best] <= 0.0:
        raise NotAcceptable(f"cannot answer as {accept}: expected any of {', '.join(offered)}")
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _quality(media_type: str, ranges: Iterable[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that matches."""
    specificity: Mapping[str, Any] = {media_type: 2, media_type.partition("/")[0] + "/*": 1, "*/*": 0}
    matching = [(specificity[name], quality) for name, quality in ranges if name in specificity]
    return max(matching)[1] if matching else 0.0
