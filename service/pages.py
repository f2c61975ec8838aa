"""What cannot be a BentoML API: GET, paths that name the model, and answers whose headers count."""

import inspect
from pathlib import Path

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from photoz.protocol import contract
from service import openapi
from service.metrics import CONTENT_TYPE
from service.v2 import routes as v2


async def _model(request: Request) -> Response:
    service = bentoml.get_current_service()
    headers = {contract.MODEL_HEADER: service.model_label}
    return Response(service.card.model_dump_json(), media_type=contract.JSON, headers=headers)


async def _metrics(request: Request) -> Response:
    service = bentoml.get_current_service()
    return Response(service.metrics.exposition(), headers={"content-type": CONTENT_TYPE})


async def _document(request: Request) -> Response:
    service = bentoml.get_current_service()
    skeleton = service.bento_service.openapi_spec.asdict()
    return JSONResponse(openapi.document(skeleton, inspect.getdoc(service) or ""))


async def _index(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


def pages() -> Starlette:
    """Make the application to mount; its `/` and `/docs.json` stand before BentoML's own.

    BentoML's page reports its visitors to Google, and its document knows one media type for each endpoint.
    """
    routes = [Route("/", _index), Route("/model", _model), Route("/metrics", _metrics), Route("/docs.json", _document)]
    return Starlette(routes=[*v2.routes(), *routes])
