"""Endpoints that predict redshifts, or bring cutouts into the layout of the model: decode, predict, encode."""

from dataclasses import replace

import numpy as np
from starlette.responses import JSONResponse, Response

from photoz.errors import UnsupportedType, printable
from photoz.inference.predictor import ALL_COLUMNS, as_estimates
from photoz.io.formats import JSON, QP
from photoz.io.provenance import Provenance
from photoz.io.tables import ResultTable, passed_columns, result_table
from photoz.protocol.contract import PredictOptions, PredictRequest, SkyRequest, TableOptions
from photoz.validation import Arrays, as_batch, as_table_columns
from service.decoding import read_file, reserve_conversion, reserve_decoding
from service.formats import json
from service.formats.estimates import BYTES_PER_NUMBER, encode_cutouts, encode_estimates
from service.formats.negotiation import (
    FILE_TYPES,
    PREDICTIONS,
    TABLES,
    check_no_query,
    check_type,
    negotiate,
    query_options,
)
from service.request import Request
from service.state import State
from service.steps import SMALL, run_step


async def predict(request: Request, state: State) -> Response:
    """Predict redshifts of cutouts in JSON."""
    media_type = negotiate(request.accept, PREDICTIONS)
    check_type(request, (JSON.media_type,), "/predict_file reads files")
    check_no_query(request)
    await reserve_decoding(request, n_json=request.received_bytes)
    # Always in a thread: a pixel in JSON takes a thousand times the work of a binary one.
    message = await run_step("decode", SMALL + 1, json.decode, request.body, PredictRequest)
    options = PredictOptions(pdf=message.pdf)
    return await _predict(request, state, json.as_arrays(message), options, media_type)


async def predict_file(request: Request, state: State) -> Response:
    """Predict redshifts of cutouts in the bytes of a .npy, .npz, FITS or HDF5 file."""
    media_type = negotiate(request.accept, PREDICTIONS)
    check_type(request, FILE_TYPES, "/predict reads JSON")
    options = query_options(request, PredictOptions)
    arrays = await read_file(request, state.files, state.max_bytes)
    if options.ebv is not None:
        arrays.setdefault("ebv", np.array(options.ebv))
    return await _predict(request, state, arrays, options, media_type)


async def _predict(
    request: Request, state: State, arrays: Arrays, options: PredictOptions, media_type: str
) -> Response:
    with_pdfs = options.pdf or media_type == QP.media_type
    images = arrays.get("images", np.empty(0))
    n_rows = len(images) if images.ndim else 1
    answer_bytes = BYTES_PER_NUMBER[media_type] * n_rows * state.card.grid.n_bins if with_pdfs else 0
    reserve_conversion(request, arrays, answer_bytes)
    size = images.nbytes
    batch = await run_step("validate", size, as_batch, arrays, state.card, state.settings.max_rows)
    passed, left_out = passed_columns(arrays, len(batch))
    arrays.clear()  # if they were converted, they are not needed any more
    estimates = as_estimates(batch, await state.predict_columns(request, batch, ALL_COLUMNS))
    if not with_pdfs:
        estimates = replace(estimates, pdf=None)
    request.reading.left_out.extend(left_out)
    provenance = Provenance(state.model_label, "HTTP request", notes=vars(request.reading))
    table = result_table(estimates, provenance, state.card.grid, passed=passed)
    return await run_step("encode", max(size, answer_bytes), encode_estimates, table, media_type)


async def cutouts(request: Request, state: State) -> Response:
    """Convert the bytes of a .npy, .npz, FITS or HDF5 file to a .npz file in the layout of the model."""
    check_type(request, FILE_TYPES)
    check_no_query(request)
    return await _as_npz(request, state, await read_file(request, state.files, state.max_bytes))


async def table(request: Request, state: State) -> Response:
    """Write estimates that were predicted before, and other columns of their galaxies, in another format."""
    media_type = negotiate(request.accept, TABLES)
    check_type(request, FILE_TYPES)
    options = query_options(request, TableOptions)
    arrays = await read_file(request, state.files, state.max_bytes)
    size = sum(values.nbytes for values in arrays.values())
    request.memory.reserve(request, BYTES_PER_NUMBER[media_type] * sum(values.size for values in arrays.values()))
    columns = await run_step("validate", size, as_table_columns, arrays, state.card, state.settings.max_rows)
    provenance = Provenance(
        printable(options.model) or state.model_label,
        options.input,
        notes={name: [text] for name in ("assumed", "left_out") if (text := getattr(options, name))},
    )
    table = ResultTable(columns, provenance, state.card.grid)
    response = await run_step("encode", size, encode_estimates, table, media_type)
    return JSONResponse({"path": state.shared.add(response).lstrip("/")}) if options.share else response


async def sky(request: Request, state: State) -> Response:
    """Cut out a position on the sky of an archive, if the operator allows it: a .npz file as of `/cutouts`."""
    if request.media_type != JSON.media_type:  # pages of other origins can send untyped bodies and forms
        raise UnsupportedType(f"expected Content-Type: {JSON.media_type}, got {request.media_type or 'none'}")
    check_type(request, (JSON.media_type,))
    check_no_query(request)
    await reserve_decoding(request, n_json=request.received_bytes)
    position = await run_step("decode", request.received_bytes, json.decode, request.body, SkyRequest)
    return await _as_npz(request, state, await state.archive.cut_out(request, position))


async def _as_npz(request: Request, state: State, arrays: Arrays) -> Response:
    images = arrays.get("images", np.empty(0))
    reserve_conversion(request, arrays, 2 * 4 * images.size)
    # Raises if they are unusable. Single galaxies that cannot be predicted are refused when that is asked for.
    shaped = {name: values for name, values in arrays.items() if name != "ebv"}
    if "images" in arrays:
        shaped["images"] = np.broadcast_to(np.ones((), images.dtype), images.shape)
    await run_step("validate", images.nbytes, as_batch, shaped, state.card, state.settings.max_rows)
    return await run_step("encode", images.nbytes, encode_cutouts, arrays)
