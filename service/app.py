"""The BentoML service: `bentoml serve service.app:Photoz`.

Each endpoint decodes, estimates and encodes. The network runs in the lane's threads; whatever else takes longer than
the way to a thread runs in one too, so that the event loop is free for others.
"""

import gc
import os
import sys
from dataclasses import replace
from functools import partial

import bentoml
from anyio import to_thread
from starlette.responses import Response

from photoz import contract, estimates
from photoz.bundle import ModelBundle
from photoz.errors import PhotozError
from service import aside, decode, encode
from service.batch import Batch, Labelled, as_batch, as_labelled, unpacked_limit
from service.call import Call
from service.check import try_bundle
from service.edge.deadline import take_the_place_of_bentomls
from service.edge.one_shape import OneShape
from service.errors import answered
from service.inputs import EvaluateInput, FileInput, PredictInput
from service.lane import Columns, Lane
from service.pages import pages
from service.predictor import EVERYTHING, Predictor, as_estimates, refuse_unmeasured
from service.reports import Reporter
from service.settings import ONE_THREAD, Settings, access_log


# Of the half millisecond that BentoML adds to a request, tracing takes half, even where nothing collects the traces,
# and the access log a fifth (docs/decisions.md).
@bentoml.service(
    workers=1,
    threads=4,
    traffic={"timeout": 300},
    tracing={"excluded_urls": "."},
    logging={"access": {"enabled": access_log()}},
)
@bentoml.asgi_app(pages(), path="/")
class Photoz:
    """Photometric redshifts: galaxy cutouts in, redshift PDFs and their summaries out."""

    def __init__(self) -> None:
        settings = Settings.from_environment()
        bundle = ModelBundle.load(settings.bundle)
        self.card = bundle.card
        self.model_label = encode.model_label(bundle.card)
        predictor = Predictor(bundle, settings)
        self._lane = Lane(predictor.infer, predictor.summarise)
        self.max_rows = settings.max_rows
        self._max_bytes = unpacked_limit(bundle.card, settings.max_rows)
        self._reporter = Reporter(bundle.card.grid, self.model_label, settings.draw_timeout)
        # What was imported and loaded stays until the end. Unless it is left out, the garbage collector looks through
        # all of it every few hundred requests, which stops everybody for 0.1 s.
        gc.collect()
        gc.freeze()

    @bentoml.on_deployment
    @staticmethod
    def refuse_bad_bundle() -> None:
        """End with one line, before a worker starts, when the bundle or a setting cannot be used."""
        try:
            settings = Settings.from_environment()
            engine = try_bundle(settings)
        except PhotozError as error:
            sys.exit(f"photoz: {error}")
        os.environ["PHOTOZ_BUNDLE"] = str(settings.bundle.resolve())  # the workers of a bento run in another folder
        os.environ["PHOTOZ_ENGINE"] = engine
        os.environ.update(ONE_THREAD)

    @bentoml.api(input_spec=PredictInput, output_spec=contract.PredictResponse)
    @answered
    async def predict(self, call: Call) -> Response:
        """Predict redshifts of cutouts in JSON."""
        media_type = encode.negotiate(call.accept, encode.PREDICTIONS)
        # A pixel of JSON takes a thousand times the work of a binary one.
        arrays, options = await to_thread.run_sync(decode.predict_json, call)
        return await self._predicted(call, arrays, options, media_type)

    @bentoml.api(input_spec=FileInput, output_spec=contract.PredictResponse)
    @answered
    async def predict_file(self, call: Call) -> Response:
        """Predict redshifts of cutouts in the bytes of a .npy or .npz file."""
        media_type = encode.negotiate(call.accept, encode.PREDICTIONS)
        arrays, options = await aside.run(len(call.body), decode.predict_file, call, self._max_bytes)
        return await self._predicted(call, arrays, options, media_type)

    @bentoml.api(input_spec=EvaluateInput, output_spec=contract.EvaluateResponse)
    @answered
    async def evaluate(self, call: Call) -> Response:
        """Compare redshifts with true ones: figures of merit, a plot, or a report."""
        options = decode.query_options(call, contract.EvaluateOptions)
        media_type = encode.negotiate(call.accept, encode.evaluations(options))
        labelled = await to_thread.run_sync(self._labelled, call)
        source = labelled.source
        if isinstance(source, Batch):
            table = await self.estimate(source)
        else:
            table = await to_thread.run_sync(partial(estimates.from_pdfs, source, self.card.grid, include_pdf=True))
        return await self._reporter.evaluation(labelled, table, options, media_type)

    async def estimate(self, batch: Batch) -> estimates.Estimates:
        """Estimate the redshifts of galaxies that passed the border check, with their names and PDFs."""
        return as_estimates(batch, await self.columns(batch, EVERYTHING))

    async def columns(self, batch: Batch, wanted: frozenset[str]) -> Columns:
        """Compute some columns alone, and the PDFs, of those that follow from the images, an element a galaxy."""
        columns = await self._lane.columns(batch, wanted | {"pdf"})
        refuse_unmeasured(columns["pdf"])
        return columns

    async def _predicted(
        self, call: Call, arrays: decode.Arrays, options: contract.PredictOptions, media_type: str
    ) -> Response:
        batch = await aside.run(len(call.body), as_batch, arrays, self.card, self.max_rows)
        table = await self.estimate(batch)
        chosen = table if options.pdf else replace(table, pdf=None)
        return await aside.run(len(call.body), encode.predictions, chosen, media_type, self.model_label)

    def _labelled(self, call: Call) -> Labelled:
        return as_labelled(decode.evaluation(call, self._max_bytes), self.card, self.max_rows)


Photoz.add_asgi_middleware(OneShape)
take_the_place_of_bentomls()
