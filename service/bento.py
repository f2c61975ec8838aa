"""The application as a BentoML service: its APIs, lifecycle and bento, and where BentoML has to be changed.

`service.server` runs it with granian; `bentoml serve service.bento:Photoz` runs it with BentoML's own server. The
changes were checked with bentoml 1.4.39 and prometheus_client 0.26; we know of no upstream issues for these.
"""

import gc
import logging
import multiprocessing
import os
import sys
from asyncio import get_running_loop
from typing import Any, Self

import bentoml
from pydantic import BaseModel
from starlette import requests
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from photoz.errors import PhotozError
from photoz.protocol import contract
from service import logs, tracing
from service.app import APIS, application
from service.limits import LimitsMiddleware
from service.request import SCOPE_KEY, Request
from service.resources import end_if_frozen, keep_returning_memory
from service.settings import Settings
from service.startup import CANNOT_START, DRAIN_SIGNAL, worker_environment
from service.state import State, state_of

logger = logging.getLogger("bentoml.photoz")

# Garbage collector thresholds (see `gc.set_threshold`): new objects, and collections, before the next collection. A
# hundred requests at a time are 20,000 objects, none of them garbage: a threshold of 5,000 took 8 % of the time.
COLLECTOR_THRESHOLDS = (50_000, 20, 20)

app = application()
app.mount("/static_content", StaticFiles(packages=[("bentoml._internal.server", "static_content")]))  # for `/docs`


async def _all_paths(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application, for unknown paths too: given the application itself, BentoML would answer those."""
    await app(scope, receive, send)


class RawInput(bentoml.IODescriptor):
    """A BentoML input that is the request itself.

    BentoML would decode the body by its Content-Type on the event loop, unknown types as JSON. The endpoints decode it
    themselves, in threads; `service.openapi` describes it.
    """

    request: Any

    @classmethod
    async def from_http_request(cls, request: requests.Request, serde: Any) -> Self:
        """Return the request that the middleware has received."""
        raw_input: Self = cls.model_construct(request=request.scope[SCOPE_KEY])
        return raw_input

    @classmethod
    def mime_type(cls) -> str:
        """Return the media type of the body, for BentoML's own schema."""
        return "application/octet-stream"


def _api(name: str, answer: type[BaseModel]) -> Any:
    """Return an endpoint as an API of BentoML, whose route comes before that of the application."""
    endpoint = APIS[name]

    async def call(self: "Photoz", request: Request) -> Response:
        return await self.state.respond(endpoint, request)

    call.__name__, call.__doc__ = name, endpoint.__doc__
    return bentoml.api(input_spec=RawInput, output_spec=answer)(call)


# BentoML adds half a millisecond to a request; tracing takes half of it, even where no collector is set, and the access
# log a fifth (docs/decisions.md). Its metrics have a label for every path that a client makes up.
@bentoml.service(
    workers=1,
    threads=4,
    tracing=tracing.tracing_options(),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    # For `bentoml containerize`: nothing is compiled, and for a distribution that it does not know, BentoML leaves out
    # its 0.7 GB of compilers.
    image=bentoml.images.Image(base_image="python:3.11-slim", distro="slim", python_version="3.11"),
)
@bentoml.asgi_app(_all_paths, path="/")
class Photoz:
    """Photometric redshifts: galaxy cutouts in, redshift PDFs and their summaries out."""

    def __init__(self) -> None:
        settings = Settings.from_environment()
        logs.configure(settings.log_format)
        _use_in_process_metrics()
        try:
            self.state = app.state.photoz = State(settings)
        except PhotozError as error:  # preflight passed: the bundle, or another file, has changed since
            logger.error("%s", error)
            logging.shutdown()  # writes the line
            os._exit(CANNOT_START)
        # What was imported and loaded stays until the end. The garbage collector would scan all of it every few hundred
        # requests, which blocks the event loop for 0.1 s; and with hundreds of connections it would scan theirs again
        # and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        keep_returning_memory()

    @bentoml.on_startup
    async def install_handlers(self) -> None:
        """Start to drain on the signal of the main process, which closes the connections after that.

        The worker ends when that process does, since nothing else would stop it.
        """
        loop = get_running_loop()
        if parent := multiprocessing.parent_process():  # not under `bentoml serve`
            loop.add_reader(parent.sentinel, os._exit, 1)

        def drain() -> None:
            self.state.limits.start_draining()
            end_if_frozen(loop)

        loop.add_signal_handler(DRAIN_SIGNAL, drain)

    @bentoml.on_deployment
    @staticmethod
    def check_before_deployment() -> None:
        """Check bundle and settings before `bentoml serve` starts a worker; end with one line if they are unusable."""
        _disable_usage_tracking()
        try:
            _use_bundle_of(bento_service.bento)
            os.environ.update(worker_environment())
        except PhotozError as error:
            sys.exit(f"photoz: {error}")

    predict = _api("predict", contract.PredictResponse)
    predict_file = _api("predict_file", contract.PredictResponse)
    cutouts = _api("cutouts", contract.PredictResponse)
    table = _api("table", contract.PredictResponse)
    sky = _api("sky", contract.PredictResponse)
    evaluate = _api("evaluate", contract.EvaluateResponse)


bento_service: Any = Photoz  # the decorator has made it a BentoML service

bento_service.add_asgi_middleware(LimitsMiddleware, limits=lambda: state_of(app).limits)


def asgi() -> ASGIApp:
    """Return the ASGI application that granian serves, in a worker with a process group of its own.

    Ctrl-C signals the whole group in the foreground: only the main process decides when the worker ends. BentoML starts
    and ends the application, and answers `/schema.json`. Other requests do not pass its layers (docs/decisions.md).
    """
    os.setpgid(0, 0)
    bentoml_app: ASGIApp = bento_service.to_asgi()
    served = tracing.traced(LimitsMiddleware(app, limits=lambda: state_of(app).limits))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        of_bentoml = scope["type"] == "lifespan" or scope["path"] == "/schema.json"
        await (bentoml_app if of_bentoml else served)(scope, receive, send)

    return serve


def _use_bundle_of(bento: bentoml.Bento | None) -> None:
    if bento is None or os.environ.get("PHOTOZ_BUNDLE", "").strip():
        return
    from service.store import of_bento

    if bundle := of_bento(bento):
        os.environ["PHOTOZ_BUNDLE"] = str(bundle)


def _disable_usage_tracking() -> None:
    """Keep BentoML from reporting its use, unless the operator asks for it.

    `bentoml serve` reads the variable before this service is loaded, and caches it
    (bentoml/_internal/utils/analytics/usage_stats.py).
    """
    from bentoml._internal.utils.analytics import usage_stats

    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    usage_stats.do_not_track.cache_clear()


def _use_in_process_metrics() -> None:
    """Keep metrics in the memory of the process.

    `bentoml serve` sets PROMETHEUS_MULTIPROC_DIR, which moves them into memory-mapped files: on a full disk these end
    the process (prometheus_client/values.py).
    """
    from prometheus_client import values

    values.ValueClass = values.MutexValue
