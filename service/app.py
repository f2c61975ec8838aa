"""The HTTP service as a plain Starlette application: routes, middleware and state.

`service.bento` makes it a BentoML service.
"""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette import requests
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from photoz.io.formats import JSON
from photoz.protocol.contract import MODEL_HEADER
from service import openapi, page, v2
from service.errors import EXCEPTION_HANDLERS
from service.evaluate import evaluate
from service.predict import cutouts, predict, predict_file, sky, table
from service.request import SCOPE_KEY
from service.state import Endpoint, state_of

# The endpoints that BentoML knows as APIs.
APIS: Mapping[str, Endpoint] = {api.__name__: api for api in (predict, predict_file, cutouts, table, sky, evaluate)}


def _route(endpoint: Endpoint) -> Route:
    async def handle(request: requests.Request) -> Response:
        return await state_of(request.app).respond(endpoint, request.scope[SCOPE_KEY])

    return Route(f"/{endpoint.__name__}", handle, methods=["POST"])


async def live(request: requests.Request) -> Response:
    """Say that the service is alive, and ready: it answers only once its model is loaded and warm."""
    return PlainTextResponse("\n")


async def model_card(request: requests.Request) -> Response:
    """Return the card of the model."""
    state = state_of(request.app)
    return Response(state.card_json, media_type=JSON.media_type, headers={MODEL_HEADER: state.model_label})


async def shared_table(request: requests.Request) -> Response:
    """Return a table that was shared."""
    found = state_of(request.app).shared.get(request.url.path)
    missing = JSONResponse({"error": "there is no such table here, or no longer"}, HTTPStatus.NOT_FOUND)
    return missing if found is None else Response(found.body, media_type=found.media_type)


async def metrics(request: requests.Request) -> Response:
    """Return the metrics in the text format of Prometheus."""
    return Response(state_of(request.app).metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})


async def page_options(request: requests.Request) -> Response:
    """Return what the page needs to know of the service."""
    return page.options(state_of(request.app).settings)


async def openapi_document(request: requests.Request) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(openapi.document())


async def swagger(request: requests.Request) -> Response:
    """Return the page that shows the OpenAPI document."""
    return FileResponse(Path(__file__).with_name("swagger.html"), headers=page.HEADERS)


V2_MODEL_ROUTES = (("", v2.metadata, "GET"), ("/ready", v2.model_ready, "GET"), ("/infer", v2.infer, "POST"))

ROUTES = [
    *map(_route, APIS.values()),
    *(
        Route(f"/v2/models/{{name}}{version}{path}", endpoint, methods=[method])
        for path, endpoint, method in V2_MODEL_ROUTES
        for version in ("", "/versions/{version}")
    ),
    Route("/v2", v2.server),
    Route("/v2/", v2.server),
    Route("/v2/health/live", v2.live),
    Route("/v2/health/ready", v2.ready),
    Route("/v2/repository/index", v2.repository_index, methods=["POST"]),
    *(Route(path, live) for path in ("/livez", "/readyz", "/healthz")),
    Route(page.HOME, page.home),
    *(Route(path, page.file) for path in page.FILES),
    Route(page.OPTIONS, page_options),
    Route("/docs", swagger),
    Route("/docs.json", openapi_document),
    Route("/model", model_card),
    Route("/table/{name}", shared_table),
    Route("/metrics", metrics),
]


def application() -> Starlette:
    """Return the application without its middleware, `LimitsMiddleware`, and without its state, `app.state.photoz`."""
    app = Starlette(routes=ROUTES, exception_handlers=EXCEPTION_HANDLERS)
    app.router.redirect_slashes = False  # the redirect would name the host that the client made up
    return app
