"""Predict in this process, with a model bundle in place of a service."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from photoz import estimates, evaluation
from photoz.cpus import available_cpus
from photoz.errors import InvalidInput
from photoz.estimates import Estimates, Names
from photoz.images import Batch
from photoz.inference.predictor import Predictor
from photoz.io.formats import HTML, SVG, Format
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateOptions, EvaluateResponse, validated
from photoz.validation import LabelledGalaxies, as_batch, as_labelled
from photoz_client._backends import BlockingTasks
from photoz_client._errors import MissingExtra
from photoz_client._inputs import Arrays, EvaluateInputs, counted_from
from photoz_client._prediction import Prediction


class LocalConnection:
    """Answers what `ServiceConnection` asks a service; for the arguments see `LocalClient`."""

    in_flight = 2  # while the network runs on one part, another is read or summarised
    backend = BlockingTasks()

    def __init__(self, bundle: str | os.PathLike[str], engine: str, threads: int | None) -> None:
        loaded = ModelBundle.load(bundle)
        with _packages_of_the_extra():
            self._predictor = Predictor.load(loaded, engine=engine, threads=threads or available_cpus())
        self.address, self._card = str(bundle), loaded.card
        self._label = f"{loaded.card.name} {loaded.card.version}"

    async def model_name(self) -> str:
        """Return the name of the model."""
        return self._card.name

    async def model(self) -> Card:
        """Return the card of the model."""
        return self._card

    async def check_ready(self, timeout: float) -> None:
        """Return, since the model is loaded."""

    async def predict(
        self, read: Callable[[], Arrays], object_id: Names, pdf: bool, first_row: int, stop: Any = None
    ) -> Prediction:
        """See `ServiceConnection.predict`; raises `InvalidInput` where the service would refuse the request."""
        arrays = read()
        try:
            computed = self._predictor.predict(as_batch(arrays, self._card))
        except InvalidInput as error:
            raise type(error)(counted_from(first_row, str(error))) from error
        columns: dict[str, Any] = dict(computed.columns()) | {"object_id": object_id}
        columns["pdf"] = columns["pdf"].astype(np.float32) if pdf else None  # as a service sends them
        return Prediction(**columns, model=self._label, grid=self._card.grid)

    async def evaluate(self, inputs: EvaluateInputs) -> EvaluateResponse:
        """Return the metrics."""
        galaxies, table = self._predict_labelled(inputs)
        scores = evaluation.scores(np.asarray(table.pdf), galaxies.z_spec, self._card.grid)
        return EvaluateResponse(
            model=self._label, n_galaxies=len(galaxies.z_spec), scores=scores, dropped=list(galaxies.dropped)
        )

    async def draw(self, inputs: EvaluateInputs, format: Format, params: Mapping[str, str]) -> bytes:
        """Return a report or a plot."""
        options = validated(EvaluateOptions, params, strict=False)
        galaxies, table = self._predict_labelled(inputs)
        pdfs, grid = np.asarray(table.pdf), self._card.grid
        with _packages_of_the_extra():
            if format is HTML:
                details = evaluation.details(galaxies, self._label) | {"flags": table.flags}
                return evaluation.report(pdfs, galaxies.z_spec, grid, details).encode()
            about = (galaxies.z_spec, galaxies.object_id, grid, options)
            return evaluation.draw(pdfs, *about, "svg" if format is SVG else "png")

    def _predict_labelled(self, inputs: EvaluateInputs) -> tuple[LabelledGalaxies, Estimates]:
        galaxies = as_labelled(inputs.arrays(), self._card)
        source = galaxies.source
        if isinstance(source, Batch):
            return galaxies, self._predictor.predict(source)
        return galaxies, estimates.from_pdfs(source, self._card.grid, include_pdf=True)


@contextmanager
def _packages_of_the_extra() -> Iterator[None]:
    """Raise `MissingExtra` in place of the error for a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"without a service this needs {error.name}: install it with pip install 'photoz[local]'"
        raise MissingExtra(message) from error
