"""The BentoML service: `bentoml serve service.app:Photoz`.

Each endpoint decodes, estimates and encodes. The network runs in the lane's threads; whatever else takes longer than
the way to a thread runs in one too, so that the event loop is free for others.
"""

import gc
import logging
import os
import sys
from dataclasses import replace
from functools import partial

import bentoml
from starlette.responses import Response

from photoz import estimates
from photoz.errors import PhotozError
from photoz.inference.batch import Batch
from photoz.inference.predictor import ALL_COLUMNS, Predictor, as_estimates, refuse_missing_pdfs
from photoz.inference.preflight import preflight
from photoz.model.bundle import ModelBundle
from photoz.protocol import contract
from service import aside, decode, encode, logs
from service.batch import Labelled, as_batch, as_labelled, unpacked_limit
from service.call import Call
from service.edge.connection import Connection, take_the_place_of_uvicorns
from service.edge.deadline import switch_bentomls_off
from service.edge.keys import read_keys
from service.edge.layer import Edge, Guard
from service.edge.visit import note_rows
from service.errors import answered
from service.inputs import EvaluateInput, FileInput, PredictInput
from service.lane import Columns, Lane
from service.metrics import Metrics
from service.pages import pages
from service.reports import Reporter
from service.settings import ALLOCATOR, CANNOT_START, ONE_THREAD, Settings
from service.tracing import span, tracing_options

logger = logging.getLogger("bentoml.photoz")


# Of the half millisecond that BentoML adds to a request, tracing takes half, even where nothing collects the traces,
# and the access log a fifth (docs/decisions.md). Its metrics have a label for every path that anybody thinks of.
@bentoml.service(
    workers=1,
    threads=4,
    tracing=tracing_options(),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    # For `bentoml containerize`. Nothing has to be compiled: where BentoML does not know the distribution, it leaves
    # its 0.7 GB of compilers out.
    image=bentoml.images.Image(base_image="python:3.11-slim", distro="slim", python_version="3.11"),
)
@bentoml.asgi_app(pages(), path="/")
class Photoz:
    """Photometric redshifts: galaxy cutouts in, redshift PDFs and their summaries out."""

    def __init__(self) -> None:
        try:
            self._load(Settings.from_environment())
        except PhotozError as error:  # it was tried before: the bundle, or a file beside it, has changed since
            logger.error("%s", error)
            os._exit(CANNOT_START)
        # What was imported and loaded stays until the end. Unless it is left out, the garbage collector looks through
        # all of it every few hundred requests, which stops everybody for 0.1 s.
        gc.collect()
        gc.freeze()

    def _load(self, settings: Settings) -> None:
        logs.configure(settings.log_format)
        bundle = ModelBundle.load(settings.bundle)
        self.card = bundle.card
        self.model_label = encode.model_label(bundle.card)
        self.max_rows = settings.max_rows
        self.metrics = Metrics(bundle.card)
        self.guard = Guard(settings, self.metrics)
        predictor = Predictor.load(
            bundle, engine=settings.engine, threads=settings.threads, recalibrate=settings.calibration
        )
        self._lane = Lane(self.metrics.measured(predictor.run_network), self.metrics.judged(predictor.summarise))
        self.max_bytes = min(unpacked_limit(bundle.card, settings.max_rows), settings.limits.body)
        self._reporter = Reporter(bundle.card.grid, self.model_label, settings.draw_timeout)
        self.metrics.watch("photoz_queue_rows", "Galaxies that wait for the network", lambda: self._lane.waiting)
        self.metrics.watch("photoz_in_flight", "Requests at work", lambda: self.guard.in_flight)
        self.metrics.watch("photoz_held_bytes", "Of bodies that are held", lambda: self.guard.room.used)
        self.metrics.watch(
            "photoz_expected_memory_bytes",
            "That should be enough for the worker",
            lambda: settings.limits.expected_memory,
        )
        guard = self.guard
        Connection.configure(settings.limits, self.metrics.note_refused_connection, guard.is_full, guard.turn_away)
        logs.note_start(self.model_label, settings, guard.keys and guard.keys.n_keys)

    @bentoml.on_startup
    async def wait_for_the_end(self) -> None:
        """Stand ready to end without losing a request."""
        self.guard.drain.take_the_signal(self.guard.settings.drain)

    @bentoml.on_deployment
    @staticmethod
    def refuse_bad_bundle() -> None:
        """End with one line, before a worker starts, when the bundle or a setting cannot be used."""
        try:
            _take_bundle_of(Photoz.bento)
            settings = Settings.from_environment()
            # The workers of a bento run in another folder, and a tag may mean another bundle when one is started again.
            os.environ["PHOTOZ_BUNDLE"] = str(settings.bundle.resolve())
            logs.configure(settings.log_format)
            if settings.keys_file:
                read_keys(settings.keys_file)
            engine = preflight(settings.bundle, settings.engine, settings.threads)
        except PhotozError as error:
            sys.exit(f"photoz: {error}")
        os.environ["PHOTOZ_ENGINE"] = engine
        os.environ.update(ALLOCATOR | os.environ | ONE_THREAD)
        from service.supervisor import take_the_place_of_bentomls  # the workers do without all that it imports

        take_the_place_of_bentomls()

    @bentoml.api(input_spec=PredictInput, output_spec=contract.PredictResponse)
    @answered
    async def predict(self, call: Call) -> Response:
        """Predict redshifts of cutouts in JSON."""
        media_type = encode.negotiate(call.accept, encode.PREDICTIONS)
        # A pixel of JSON takes a thousand times the work of a binary one.
        with span("decode"):
            arrays, options = await aside.in_thread(decode.predict_json, call)
        return await self._predicted(call, arrays, options, media_type)

    @bentoml.api(input_spec=FileInput, output_spec=contract.PredictResponse)
    @answered
    async def predict_file(self, call: Call) -> Response:
        """Predict redshifts of cutouts in the bytes of a .npy or .npz file."""
        media_type = encode.negotiate(call.accept, encode.PREDICTIONS)
        with span("decode"):
            arrays, options = await aside.run(len(call.body), decode.predict_file, call, self.max_bytes)
        return await self._predicted(call, arrays, options, media_type)

    @bentoml.api(input_spec=EvaluateInput, output_spec=contract.EvaluateResponse)
    @answered
    async def evaluate(self, call: Call) -> Response:
        """Compare redshifts with true ones: figures of merit, a plot, or a report."""
        options = decode.query_options(call, contract.EvaluateOptions)
        media_type = encode.negotiate(call.accept, encode.evaluations(options))
        labelled = await aside.in_thread(self._labelled, call)
        source = labelled.source
        if isinstance(source, Batch):
            table = await self.estimate(source)
        else:
            table = await aside.in_thread(partial(estimates.from_pdfs, source, self.card.grid, include_pdf=True))
        with span("draw"):
            return await self._reporter.evaluation(labelled, table, options, media_type)

    async def estimate(self, batch: Batch) -> estimates.Estimates:
        """Estimate the redshifts of galaxies that passed the border check, with their names and PDFs."""
        return as_estimates(batch, await self.columns(batch, ALL_COLUMNS))

    async def columns(self, batch: Batch, wanted: frozenset[str]) -> Columns:
        """Compute some columns alone, and the PDFs, of those that follow from the images, an element a galaxy."""
        note_rows(len(batch))
        with span("predict"):
            columns = await self._lane.columns(batch, wanted | {"pdf"})
        refuse_missing_pdfs(columns["pdf"])
        return columns

    async def _predicted(
        self, call: Call, arrays: decode.Arrays, options: contract.PredictOptions, media_type: str
    ) -> Response:
        call.reservation.cover(_size(arrays), "arrays of")
        batch = await aside.run(len(call.body), as_batch, arrays, self.card, self.max_rows)
        table = await self.estimate(batch)
        chosen = table if options.pdf else replace(table, pdf=None)
        with span("encode"):
            return await aside.run(len(call.body), encode.predictions, chosen, media_type, self.model_label)

    def _labelled(self, call: Call) -> Labelled:
        arrays = decode.evaluation(call, self.max_bytes)
        call.reservation.cover(_size(arrays), "arrays of")
        return as_labelled(arrays, self.card, self.max_rows)


def _take_bundle_of(bento: bentoml.Bento | None) -> None:
    if bento is None or os.environ.get("PHOTOZ_BUNDLE", "").strip():
        return
    from service.store import of_bento  # the workers do without

    if bundle := of_bento(bento):
        os.environ["PHOTOZ_BUNDLE"] = str(bundle)


def _size(arrays: decode.Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


Photoz.add_asgi_middleware(Edge, guard=lambda: bentoml.get_current_service().guard)
switch_bentomls_off()
take_the_place_of_uvicorns()
