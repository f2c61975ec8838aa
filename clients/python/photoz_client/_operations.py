"""What both clients offer, written once as coroutines over a connection."""

import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Literal

import numpy.typing as npt

from photoz.errors import InvalidInput
from photoz.io.cutouts import ImageSource
from photoz.io.formats import HTML, PNG, SVG
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse
from photoz_client._connection import Connection
from photoz_client._errors import ConnectionFailed, ServiceUnavailable, TimedOut
from photoz_client._inputs import EvaluateInputs, PredictInputs
from photoz_client._parts import Part, PredictionParts
from photoz_client._prediction import Prediction, PredictionIncomplete, join
from photoz_client._progress import Progress

# Seconds between two checks whether the service is ready.
POLL_INTERVAL = 0.2

PLOT_FORMATS = {"png": PNG, "svg": SVG}


class Operations:
    """The methods of `AsyncPhotozClient`, which `PhotozClient` runs to their end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def predict(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> Prediction:
        """Estimate redshifts.

        Parameters
        ----------
        images : (n, size, size, n_bands) array_like, memory map or HDF5 dataset of a real number type
            Cutouts in the unit of the model's card, or one cutout without the first axis. NaN is a masked pixel. There
            is no limit to n: the cutouts are sent in parts.
        ebv : float or (n,) array_like of float, optional
            E(B-V) in mag (SFD), one for all or one for each; NaN is unknown.
        object_id : (n,) array_like, optional
            Names of the galaxies, as integers or text; 0, 1, ... by default.
        pdf : bool
            Also return the PDFs.
        progress : bool or callable
            True shows a bar in a notebook, or on standard error if that is a terminal. A function is called with the
            number of rows of each finished part, such as `tqdm(total=n).update`.

        Returns
        -------
        Prediction
            n rows, in order.

        Raises
        ------
        PredictionIncomplete
            If some rows failed and others did not. It names the failed rows and carries the estimates of the others.
        InvalidInput
            If the client or the service finds that the input cannot be used.
        PhotozClientError
            If the service does not answer, or answers with something else.
        OSError
            If images on disk cannot be read.
        """
        predictions: list[Prediction] = []
        parts = self.predict_parts(images, ebv=ebv, object_id=object_id, pdf=pdf, progress=progress)
        try:
            async for _, prediction in parts:
                predictions.append(prediction)
        except PredictionIncomplete as error:
            raise PredictionIncomplete(error.n, error.failed, join(predictions)) from None
        return join(predictions)

    def predict_parts(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> AsyncGenerator[Part, None]:
        """Estimate redshifts part by part, for more galaxies than estimates fit into memory.

        Parameters
        ----------
        images, ebv, object_id, pdf, progress
            As in `predict`.

        Yields
        ------
        rows : (m,) int
            Numbers of the next rows that were predicted, counted from 0, in order.
        prediction : Prediction
            Their estimates, m rows.

        Raises
        ------
        PredictionIncomplete
            At the end, if some rows failed and others did not; without estimates, which were yielded before.
        InvalidInput, PhotozClientError, OSError
            As in `predict`.
        """
        inputs = PredictInputs.of(images, ebv, object_id)
        return PredictionParts(self._connection, inputs, pdf, progress).stream()

    async def evaluate(
        self,
        z_spec: npt.ArrayLike,
        *,
        images: npt.ArrayLike | ImageSource | None = None,
        pdfs: npt.ArrayLike | None = None,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
    ) -> EvaluateResponse:
        """Score the redshifts of cutouts, or PDFs that were predicted before, against the true redshifts.

        Parameters
        ----------
        z_spec : (n,) array_like of float
            True redshifts.
        images : (n, size, size, n_bands) array_like, memory map or HDF5 dataset, optional
            As in `predict`. Give either these or `pdfs`.
        pdfs : (n, n_bins) array_like of float, optional
            Probability mass per bin of the model's grid.
        ebv, object_id
            As in `predict`.

        Returns
        -------
        EvaluateResponse
            `scores` maps each metric to its `value` and bootstrap `error`; `dropped` names the galaxies whose z_spec
            is not on the grid.

        Raises
        ------
        InvalidInput, PhotozClientError
            As in `predict`.
        """
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id)
        return await self._connection.evaluate(await self._with_pdfs(inputs))

    async def evaluate_report(
        self,
        z_spec: npt.ArrayLike,
        *,
        images: npt.ArrayLike | ImageSource | None = None,
        pdfs: npt.ArrayLike | None = None,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        magnitudes: npt.ArrayLike | None = None,
    ) -> str:
        """Return one self-contained HTML page of metrics and plots; raises the errors of `evaluate`.

        Parameters
        ----------
        z_spec, images, pdfs, ebv, object_id
            As in `evaluate`.
        magnitudes : (n,) or (n, n_bands) array_like of float, optional
            Adds the residuals by magnitude to the page. The r band is used if there are several.
        """
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id, magnitudes)
        page = await self._connection.draw(await self._with_pdfs(inputs), HTML, {})
        return page.decode(errors="replace")

    async def evaluate_plot(
        self,
        z_spec: npt.ArrayLike,
        *,
        images: npt.ArrayLike | ImageSource | None = None,
        pdfs: npt.ArrayLike | None = None,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        plot: str = "scatter",
        format: Literal["png", "svg"] = "png",
        num_images: int = 9,
        seed: int = 0,
    ) -> bytes:
        """Return one plot as an image file; raises the errors of `evaluate`.

        Parameters
        ----------
        z_spec, images, pdfs, ebv, object_id
            As in `evaluate`.
        plot : str
            "scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked" or another that the service knows.
        format : {"png", "svg"}
            Format of the image.
        num_images, seed : int
            How many panels the plot "pdfs" has, and the seed that selects their galaxies.
        """
        if format not in PLOT_FORMATS:
            raise InvalidInput(f"expected format {' or '.join(PLOT_FORMATS)}, got {format!r}")
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id)
        params = {"plot": plot, "num_images": str(num_images), "seed": str(seed)}
        return await self._connection.draw(await self._with_pdfs(inputs), PLOT_FORMATS[format], params)

    async def _with_pdfs(self, inputs: EvaluateInputs) -> EvaluateInputs:
        """Predict cutouts that do not fit into one request."""
        if inputs.images is None or inputs.pdfs is not None:
            return inputs
        if not PredictInputs.of(inputs.images).needs_several_requests():
            return inputs
        pdfs = (await self.predict(inputs.images, ebv=inputs.ebv, pdf=True)).pdf
        return replace(inputs, images=None, pdfs=pdfs)

    async def model(self) -> Card:
        """Return the card of the service's model: grid, bands, size and unit of the cutouts, scores."""
        return await self._connection.model()

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the service is ready to predict.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most.

        Raises
        ------
        TimedOut
            If it is not ready by then; the message says why not.
        PhotozClientError
            At once, if something other than a photo-z service answers.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                await self._connection.check_ready(max(deadline - time.monotonic(), POLL_INTERVAL))
                return
            except (ConnectionFailed, ServiceUnavailable, TimedOut) as error:
                if time.monotonic() > deadline:
                    raise TimedOut(f"the service was not ready after {timeout:g} s: {error}") from error
            await self._connection.backend.sleep(POLL_INTERVAL)
