"""The BentoML service: each endpoint decodes, predicts and encodes.

`service.server` runs it with granian; `bentoml serve service.app:Photoz` runs it with BentoML's own server.
"""

import gc
import logging
import multiprocessing
import os
import sys
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.responses import Response

from photoz import estimates
from photoz.errors import PhotozError
from photoz.inference.predictor import ALL_COLUMNS, Batch, Predictor, as_estimates, refuse_missing_pdfs
from photoz.model.bundle import ModelBundle
from photoz.protocol import contract
from service import bentoml_patches, routes
from service.batcher import Columns, DynamicBatcher
from service.decoding import Decoder, assumed_header
from service.evaluation import Evaluator
from service.formats import negotiation
from service.formats.npz import Arrays
from service.inputs import EvaluateInput, FileInput, PredictInput, SkyInput
from service.listener import drop_new_connections, limit_unread_answers
from service.middleware.admission import AdmissionControl, AdmissionMiddleware
from service.middleware.errors import handles_errors
from service.offload import offload, offload_if_large
from service.operations import logs
from service.operations.metrics import Metrics
from service.operations.resources import end_if_frozen, keep_returning_memory, lower_priority
from service.operations.settings import Settings
from service.operations.tracing import span, tracing_options
from service.request import Request
from service.sky import Archive
from service.startup import CANNOT_START, DRAIN_SIGNAL, worker_environment
from service.validation import LabelledGalaxies, as_batch, as_labelled, converted_bytes, unpacked_limit

logger = logging.getLogger("bentoml.photoz")

# Of the garbage collector: new objects, and collections, before the next collection (`gc.set_threshold`). A hundred
# requests at a time are 20,000 objects, none of them garbage: with a threshold of 5,000 it took 8 % of the time.
COLLECTOR_THRESHOLDS = (50_000, 20, 20)


# Of the half millisecond that BentoML adds to a request, tracing takes half, even where no collector is set, and the
# access log a fifth (docs/decisions.md). Its metrics have a label for every path that a client makes up.
@bentoml.service(
    workers=1,
    threads=4,
    tracing=tracing_options(),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    # For `bentoml containerize`: nothing is compiled, and for a distribution that it does not know, BentoML leaves out
    # its 0.7 GB of compilers.
    image=bentoml.images.Image(base_image="python:3.11-slim", distro="slim", python_version="3.11"),
)
@bentoml.asgi_app(routes.application(), path="/")
class Photoz:
    """Photometric redshifts: galaxy cutouts in, redshift PDFs and their summaries out."""

    def __init__(self) -> None:
        try:
            self._load(Settings.from_environment())
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

    def _load(self, settings: Settings) -> None:
        logs.configure(settings.log_format)
        bentoml_patches.use_in_process_metrics()
        bundle = ModelBundle.load(settings.bundle)
        self.settings, self.card = settings, bundle.card
        self.model_label = f"{bundle.card.name} {bundle.card.version}".encode("ascii", "replace").decode("ascii")
        self.max_bytes = min(unpacked_limit(bundle.card, settings.max_rows), settings.max_body_bytes)
        self.metrics = Metrics(bundle.card)
        self.admission = AdmissionControl(settings, self.metrics)
        options = {"engine": settings.engine, "threads": settings.threads, "recalibrate": settings.calibration}
        with ThreadPoolExecutor(1, initializer=lower_priority) as executor:  # the engine starts its threads from there
            predictor = executor.submit(Predictor.load, bundle, **options, warm_up=True).result()
        self._batcher = DynamicBatcher(
            self.metrics.measure_inference(predictor.run_network),
            self.metrics.measure_estimates(predictor.summarise),
        )
        self._evaluator = Evaluator(bundle.card.grid, self.model_label, settings.evaluation_timeout)
        self._archive = Archive(settings.sky)
        self._decoder = Decoder(bundle.card.image, self.max_bytes)
        self._add_gauges()
        keys = self.admission.keys
        logs.log_start(self.model_label, settings, keys and keys.n_keys)

    def _add_gauges(self) -> None:
        add, admission, settings = self.metrics.add_gauge, self.admission, self.settings
        add("photoz_queue_rows", "Galaxies that wait for the network", lambda: self._batcher.queued_rows)
        add("photoz_requests_in_flight", "Requests in flight", lambda: len(admission.in_flight))
        add(
            "photoz_request_memory_bytes",
            "Held by requests and incomplete heads",
            lambda: admission.memory.used_bytes + admission.memory.heads_bytes,
        )
        add("photoz_closed_connections", "Closed, without a request", lambda: admission.connections.n_closed)
        add("photoz_log_dropped_lines", "Lines of the log that were dropped", logs.dropped_lines)
        add("photoz_documented_memory_bytes", "Needed at most", lambda: settings.documented_memory_bytes)

    @bentoml.on_startup
    async def install_handlers(self) -> None:
        """Start to drain on the signal of the main process, which closes the connections after that.

        The worker ends when that process does, since nothing else would stop it.
        """
        loop = get_running_loop()
        if parent := multiprocessing.parent_process():  # not under `bentoml serve`
            loop.add_reader(parent.sentinel, os._exit, 1)
            self.admission.connections.start()

        def drain() -> None:
            self.admission.start_draining()
            end_if_frozen(loop)
            loop.call_later(self.settings.drain_seconds, drop_new_connections)

        def limit_unread() -> None:  # granian listens only after this start
            if not limit_unread_answers(self.settings.transfer_timeout):
                loop.call_later(0.1, limit_unread)

        loop.add_signal_handler(DRAIN_SIGNAL, drain)
        if sys.platform == "linux":
            loop.call_later(0.1, limit_unread)

    @bentoml.on_deployment
    @staticmethod
    def check_before_deployment() -> None:
        """Check bundle and settings before `bentoml serve` starts a worker; end with one line if they are unusable."""
        bentoml_patches.disable_usage_tracking()
        try:
            _use_bundle_of(Photoz.bento)
            os.environ.update(worker_environment())
        except PhotozError as error:
            sys.exit(f"photoz: {error}")

    @bentoml.api(input_spec=PredictInput, output_spec=contract.PredictResponse)
    async def predict(self, request: Request) -> Response:
        """Predict redshifts of cutouts in JSON."""
        return await self._labelled(self._predict_json, request)

    @bentoml.api(input_spec=FileInput, output_spec=contract.PredictResponse)
    async def predict_file(self, request: Request) -> Response:
        """Predict redshifts of cutouts in the bytes of a .npy, .npz, FITS or HDF5 file."""
        return await self._labelled(self._predict_file, request)

    @bentoml.api(input_spec=FileInput, output_spec=contract.PredictResponse)
    async def cutouts(self, request: Request) -> Response:
        """Convert the bytes of a .npy, .npz, FITS or HDF5 file to a .npz file in the layout of the model."""
        return await self._labelled(self._cutouts, request)

    @bentoml.api(input_spec=SkyInput, output_spec=contract.PredictResponse)
    async def sky(self, request: Request) -> Response:
        """Cut out a position on the sky of an archive, if the operator allows it: a .npz file as of `/cutouts`."""
        return await self._labelled(self._sky, request)

    @bentoml.api(input_spec=EvaluateInput, output_spec=contract.EvaluateResponse)
    async def evaluate(self, request: Request) -> Response:
        """Compare redshifts with true ones: metrics, a plot, or a report."""
        return await self._labelled(self._evaluate, request)

    async def _labelled(self, endpoint: Any, request: Request) -> Response:
        response: Response = await handles_errors(endpoint)(request)
        response.headers[contract.MODEL_HEADER] = self.model_label
        response.headers.update(assumed_header(request))
        return response

    async def _predict_json(self, request: Request) -> Response:
        media_type = negotiation.negotiate(request.accept, negotiation.PREDICTIONS)
        with span("decode"):  # always in a thread: a pixel in JSON takes a thousand times the work of a binary one
            arrays, options = await offload(negotiation.decode_json, request)
        return await self._predict(request, arrays, options, media_type)

    async def _predict_file(self, request: Request) -> Response:
        media_type = negotiation.negotiate(request.accept, negotiation.PREDICTIONS)
        options = negotiation.file_options(request)
        with span("decode"):
            arrays = await self._decoder.read_file(request, options.ebv)
        return await self._predict(request, arrays, options, media_type)

    async def _cutouts(self, request: Request) -> Response:
        negotiation.check_file(request)
        with span("decode"):
            arrays = await self._decoder.read_file(request, None)
        return await self._as_npz(request, arrays)

    async def _sky(self, request: Request) -> Response:
        content = await self._archive.cut_out(request, negotiation.decode_position(request))
        return await self._as_npz(request, await self._decoder.read_in_child(request, content))

    async def _as_npz(self, request: Request, arrays: Arrays) -> Response:
        size = self._reserve_work(request, arrays)
        await offload_if_large(size, as_batch, arrays, self.card, self.settings.max_rows)  # raises if it is none
        request.reservation.reserve_work(2 * arrays["images"].size * 4, "the answer to")
        with span("encode"):
            return await offload_if_large(size, negotiation.encode_cutouts, arrays)

    async def _predict(
        self, request: Request, arrays: Arrays, options: contract.PredictOptions, media_type: str
    ) -> Response:
        size = self._reserve_work(request, arrays)
        batch = await offload_if_large(size, as_batch, arrays, self.card, self.settings.max_rows)
        arrays.clear()  # if they were converted, they are not needed any more
        with_pdfs = options.pdf or media_type == contract.QP
        if with_pdfs:
            answer_size = negotiation.answer_memory(len(batch) * self.card.grid.n_bins, media_type)
            request.reservation.reserve_work(answer_size, "PDFs of")
            size = max(size, answer_size)
        table = as_estimates(batch, await self.predict_columns(request, batch, ALL_COLUMNS))
        chosen = table if with_pdfs else replace(table, pdf=None)
        with span("encode"):
            about = (media_type, self.model_label, self.card.grid)
            return await offload_if_large(size, negotiation.encode_predictions, chosen, *about)

    async def _evaluate(self, request: Request) -> Response:
        options = negotiation.query_options(request, contract.EvaluateOptions)
        media_type = negotiation.negotiate(request.accept, negotiation.evaluation_types(options))
        galaxies = await offload(self._as_labelled, request, await self._decoder.read_evaluation(request))
        source = galaxies.source
        if isinstance(source, Batch):
            table = as_estimates(source, await self.predict_columns(request, source, ALL_COLUMNS))
        else:
            table = await offload(partial(estimates.from_pdfs, source, self.card.grid, include_pdf=True))
        with span("draw"):
            return await self._evaluator.evaluate(galaxies, table, options, media_type, request.client)

    def _as_labelled(self, request: Request, arrays: Arrays) -> LabelledGalaxies:
        self._reserve_work(request, arrays)
        return as_labelled(arrays, self.card, self.settings.max_rows)

    def _reserve_work(self, request: Request, arrays: Arrays) -> int:
        """Reserve what the arrays of a request become; return their size."""
        size = sum(array.nbytes for array in arrays.values())
        request.reservation.grow_to(size, "arrays of")
        request.reservation.reserve_work(converted_bytes(arrays), "arrays that are converted to")
        return size

    async def predict_columns(self, request: Request, batch: Batch, columns: frozenset[str]) -> Columns:
        """Compute columns of the estimates, and the PDFs, of validated galaxies."""
        request.rows += len(batch)
        with span("predict"):
            found = await self._batcher.predict(batch, columns | {"pdf"})
        refuse_missing_pdfs(found["pdf"])
        return found


def _use_bundle_of(bento: bentoml.Bento | None) -> None:
    if bento is None or os.environ.get("PHOTOZ_BUNDLE", "").strip():
        return
    from service.store import of_bento

    if bundle := of_bento(bento):
        os.environ["PHOTOZ_BUNDLE"] = str(bundle)


Photoz.add_asgi_middleware(AdmissionMiddleware, admission=lambda: bentoml.get_current_service().admission)


def application() -> Starlette:
    """Return the ASGI application that granian serves, in a worker with a process group of its own.

    Ctrl-C signals the whole group in the foreground: only the main process decides when the worker ends.
    """
    os.setpgid(0, 0)
    app = bentoml_patches.remove_unused_middleware(Photoz.to_asgi())
    app.router.redirect_slashes = False  # the redirect would name the host that the client made up
    return app
