"""The BentoML service: `bentoml serve service.app:Photoz`.

Each endpoint decodes, predicts and encodes; all three run in a worker thread, never on the event loop.
"""

import math
import os
import sys
from functools import partial

import bentoml
from anyio import to_thread
from starlette.responses import Response

from photoz import contract, estimates
from photoz.bundle import ModelBundle
from photoz.errors import PhotozError
from service import decode, encode
from service.batch import Batch, Labelled, as_batch, as_labelled, unpacked_limit
from service.call import Call
from service.check import try_bundle
from service.errors import OneShape, answered
from service.inputs import EvaluateInput, FileInput, PredictInput
from service.pages import pages
from service.predictor import Predictor
from service.reports import Reporter
from service.settings import Settings


@bentoml.service(workers=1, threads=4, traffic={"timeout": 300})
@bentoml.asgi_app(pages(), path="/")
class Photoz:
    """Photometric redshifts: galaxy cutouts in, redshift PDFs and their summaries out."""

    def __init__(self) -> None:
        settings = Settings.from_environment()
        bundle = ModelBundle.load(settings.bundle)
        self.card = bundle.card
        self.model_label = encode.model_label(bundle.card)
        self._predictor = Predictor(bundle, settings)
        self._ood_threshold = bundle.card.novelty.threshold if bundle.card.novelty else math.inf
        self.max_rows = settings.max_rows
        self._max_bytes = unpacked_limit(bundle.card, settings.max_rows)
        self._reporter = Reporter(bundle.card.grid, self.model_label, settings.draw_timeout)

    @bentoml.on_deployment
    @staticmethod
    def refuse_bad_bundle() -> None:
        """End with one line, before a worker starts, when the bundle or a setting cannot be used."""
        try:
            settings = Settings.from_environment()
            try_bundle(settings)
        except PhotozError as error:
            sys.exit(f"photoz: {error}")
        os.environ["PHOTOZ_BUNDLE"] = str(settings.bundle.resolve())  # the workers of a bento run in another folder

    @bentoml.api(input_spec=PredictInput, output_spec=contract.PredictResponse)
    @answered
    def predict(self, call: Call) -> Response:
        """Predict redshifts of cutouts in JSON."""
        media_type = encode.negotiate(call.accept, encode.PREDICTIONS)
        arrays, options = decode.predict_json(call)
        table = self._estimate(arrays, options)
        return encode.predictions(table, media_type, self.model_label)

    @bentoml.api(input_spec=FileInput, output_spec=contract.PredictResponse)
    @answered
    def predict_file(self, call: Call) -> Response:
        """Predict redshifts of cutouts in the bytes of a .npy or .npz file."""
        media_type = encode.negotiate(call.accept, encode.PREDICTIONS)
        arrays, options = decode.predict_file(call, self._max_bytes)
        table = self._estimate(arrays, options)
        return encode.predictions(table, media_type, self.model_label)

    @bentoml.api(input_spec=EvaluateInput, output_spec=contract.EvaluateResponse)
    @answered
    async def evaluate(self, call: Call) -> Response:
        """Compare redshifts with true ones: figures of merit, a plot, or a report."""
        options = decode.query_options(call, contract.EvaluateOptions)
        media_type = encode.negotiate(call.accept, encode.evaluations(options))
        labelled, table = await to_thread.run_sync(self._labelled_estimates, call)
        return await self._reporter.evaluation(labelled, table, options, media_type)

    def _labelled_estimates(self, call: Call) -> tuple[Labelled, estimates.Estimates]:
        arrays = decode.evaluation(call, self._max_bytes)
        labelled = as_labelled(arrays, self.card, self.max_rows)
        source = labelled.source
        if isinstance(source, Batch):
            return labelled, self._table(source, include_pdf=True)
        return labelled, estimates.from_pdfs(source, self.card.grid, include_pdf=True)

    async def estimate(self, batch: Batch) -> estimates.Estimates:
        """Estimate the redshifts of galaxies that passed the border check, with their PDFs."""
        return await to_thread.run_sync(partial(self._table, batch, include_pdf=True))

    def _estimate(self, arrays: decode.Arrays, options: contract.PredictOptions) -> estimates.Estimates:
        return self._table(as_batch(arrays, self.card, self.max_rows), include_pdf=options.pdf)

    def _table(self, batch: Batch, *, include_pdf: bool) -> estimates.Estimates:
        predicted = self._predictor.predict(batch)
        return estimates.from_pdfs(
            predicted.pdfs,
            self.card.grid,
            object_id=batch.object_id,
            input_flags=estimates.flag_inputs(batch.images, batch.ebv),
            ood_score=predicted.ood_score,
            ood_threshold=self._ood_threshold,
            include_pdf=include_pdf,
        )


Photoz.add_asgi_middleware(OneShape)
