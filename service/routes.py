"""Routes that cannot be BentoML APIs: GET requests, and the Open Inference Protocol v2, whose paths name the model.

https://github.com/kserve/open-inference-protocol, with the binary tensor data extension of Triton.
"""

import inspect
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from photoz import __version__
from photoz.model.card import Card
from photoz.protocol import contract
from service import openapi, page
from service.formats import open_inference
from service.middleware.errors import handles_errors
from service.offload import offload_if_large
from service.operations.metrics import CONTENT_TYPE
from service.operations.tracing import span
from service.request import KEY, Request

SERVER = {"name": "photoz", "version": __version__, "extensions": ("binary_tensor_data",)}


def _service() -> Any:
    return bentoml.get_current_service()


async def _infer(starlette: StarletteRequest) -> Response:
    service = _service()
    if wrong := _wrong_model(starlette, service.card):
        return wrong
    response = await _infer_or_refuse(starlette.scope[KEY], service)
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        response.status_code = HTTPStatus.BAD_REQUEST  # the protocol has one status for bad requests
    response.headers[contract.MODEL_HEADER] = service.model_label
    return response


@handles_errors
async def _infer_or_refuse(request: Request, service: Any) -> Response:
    with span("decode"):
        work = open_inference.decoding_work(request)
        limits = (service.card, service.settings.max_rows, service.max_bytes)
        inference = await offload_if_large(work, open_inference.decode, request, *limits)
    columns = await service.predict_columns(request, inference.batch, inference.columns)
    with span("encode"):
        work, accepted = open_inference.encoding_work(inference, service.card), request.header("accept-encoding")
        return await offload_if_large(work, open_inference.encode, inference, columns, service.card, accepted)


def _wrong_model(request: StarletteRequest, card: Card) -> Response | None:
    """Answer 404 if the path names another model or version."""
    name, version = request.path_params["name"], request.path_params.get("version", card.version)
    if (name, version) == (card.name, card.version):
        return None
    found = f"model {name}" if name != card.name else f"version {version} of model {name}"
    message = f"there is no {found} here; expected model {card.name}, version {card.version}"
    return JSONResponse({"error": message}, HTTPStatus.NOT_FOUND)


async def _server(request: StarletteRequest) -> Response:
    return JSONResponse(SERVER)


async def _live(request: StarletteRequest) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: StarletteRequest) -> Response:
    return JSONResponse({"ready": True})  # the service answers only once its model is loaded and warm


async def _metadata(request: StarletteRequest) -> Response:
    card = _service().card
    return _wrong_model(request, card) or JSONResponse(open_inference.metadata(card))


async def _model_ready(request: StarletteRequest) -> Response:
    card = _service().card
    return _wrong_model(request, card) or JSONResponse({"name": card.name, "ready": True})


async def _repository_index(request: StarletteRequest) -> Response:
    """List the models: Triton's model repository extension, as far as it applies."""
    card = _service().card
    return JSONResponse([{"name": card.name, "version": card.version, "state": "READY", "reason": ""}])


@cache
def _card_json() -> bytes:
    return _service().card.model_dump_json().encode()


async def _model_card(request: StarletteRequest) -> Response:
    service = _service()
    headers = {contract.MODEL_HEADER: service.model_label}
    return Response(_card_json(), media_type=contract.JSON, headers=headers)


async def _metrics(request: StarletteRequest) -> Response:
    return Response(_service().metrics.exposition(), headers={"content-type": CONTENT_TYPE})


@cache
def _openapi_document() -> bytes:
    service = _service()
    skeleton = service.bento_service.openapi_spec.asdict()
    return bytes(JSONResponse(openapi.document(skeleton, inspect.getdoc(service) or "")).body)


async def _openapi(request: StarletteRequest) -> Response:
    return Response(_openapi_document(), media_type=contract.JSON)


async def _page_options(request: StarletteRequest) -> Response:
    return page.options(_service().settings.sky is not None)


async def _swagger(request: StarletteRequest) -> Response:
    return FileResponse(Path(__file__).with_name("swagger.html"))


def application() -> Starlette:
    """Return the application to mount; its `/` and `/docs.json` take precedence over BentoML's own.

    BentoML's page reports its visitors to Google, and its document knows one media type for each endpoint.
    """
    of_model = [("/infer", _infer, "POST"), ("", _metadata, "GET"), ("/ready", _model_ready, "GET")]
    app = Starlette(
        routes=[
            *(
                Route(f"/v2/models/{{name}}{version}{path}", endpoint, methods=[method])
                for path, endpoint, method in of_model
                for version in ("", "/versions/{version}")
            ),
            Route("/v2", _server),
            Route("/v2/", _server),
            Route("/v2/health/live", _live),
            Route("/v2/health/ready", _ready),
            Route("/v2/repository/index", _repository_index, methods=["POST"]),
            Route(page.HOME, page.home),
            *(Route(path, page.file) for path in page.FILES),
            Route(page.OPTIONS, _page_options),
            Route("/docs", _swagger),
            Route("/model", _model_card),
            Route("/metrics", _metrics),
            Route("/docs.json", _openapi),
        ]
    )
    app.router.redirect_slashes = False
    return app
