"""Endpoints of the Open Inference Protocol v2, whose paths name the model.

https://github.com/kserve/open-inference-protocol, with the binary tensor data extension of Triton.
"""

from http import HTTPStatus

from starlette import requests
from starlette.responses import JSONResponse, Response

from photoz import __version__
from photoz.protocol.open_inference import HEADER_LENGTH, read_header_length
from photoz.validation import as_batch
from service.decoding import reserve_conversion, reserve_decoding
from service.formats import infer as format
from service.formats.infer import JSON_WORK
from service.request import SCOPE_KEY, Request
from service.state import State, state_of
from service.steps import run_step

SERVER = {"name": "photoz", "version": __version__, "extensions": ("binary_tensor_data",)}


async def infer(request: requests.Request) -> Response:
    """Predict redshifts, with tensors as JSON or as the bytes behind it."""
    state = state_of(request.app)
    if wrong := _wrong_model(request, state):
        return wrong
    response = await state.respond(_infer, request.scope[SCOPE_KEY])
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        response.status_code = HTTPStatus.BAD_REQUEST  # the protocol has one status for bad requests
    return response


async def _infer(request: Request, state: State) -> Response:
    card, max_rows = state.card, state.settings.max_rows
    header_length = read_header_length(request.headers.get(HEADER_LENGTH))
    n_json = request.received_bytes if header_length is None else min(header_length, request.received_bytes)
    await reserve_decoding(request, n_json=n_json)
    size = request.received_bytes + JSON_WORK * n_json
    chunks, request.chunks = request.chunks, []
    inference = await run_step("decode", size, format.decode, chunks, header_length, max_rows)
    del chunks  # the arrays are in another buffer
    arrays = inference.arrays
    reserve_conversion(request, arrays, inference.pdf_bytes(card))
    batch = await run_step("validate", size, as_batch, arrays, card, max_rows)
    arrays.clear()  # if they were converted, they are not needed any more
    columns = await state.predict_columns(request, batch, inference.columns)
    size = format.encoding_work(inference.outputs, len(batch), card)
    accepted = request.headers.get("accept-encoding", "")
    return await run_step("encode", size, format.encode, inference, batch.names, columns, card, accepted)


def _wrong_model(request: requests.Request, state: State) -> Response | None:
    """Return the 404 response if the path names another model or version."""
    card = state.card
    name, version = request.path_params["name"], request.path_params.get("version", card.version)
    if (name, version) == (card.name, card.version):
        return None
    named = f"model {name}" if name != card.name else f"version {version} of model {name}"
    message = f"there is no {named} here; expected model {card.name}, version {card.version}"
    return JSONResponse({"error": message}, HTTPStatus.NOT_FOUND)


async def server(request: requests.Request) -> Response:
    """Return what the server is."""
    return JSONResponse(SERVER)


async def live(request: requests.Request) -> Response:
    """Say that the server is alive."""
    return JSONResponse({"live": True})


async def ready(request: requests.Request) -> Response:
    """Say that the server is ready: it answers only once its model is loaded and warm."""
    return JSONResponse({"ready": True})


async def metadata(request: requests.Request) -> Response:
    """Return which tensors the model takes and gives."""
    state = state_of(request.app)
    return _wrong_model(request, state) or JSONResponse(format.metadata(state.card))


async def model_ready(request: requests.Request) -> Response:
    """Say that the model is ready."""
    state = state_of(request.app)
    return _wrong_model(request, state) or JSONResponse({"name": state.card.name, "ready": True})


async def repository_index(request: requests.Request) -> Response:
    """List the models: Triton's model repository extension, as far as it applies."""
    card = state_of(request.app).card
    return JSONResponse([{"name": card.name, "version": card.version, "state": "READY", "reason": ""}])
