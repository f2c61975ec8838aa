"""The client that blocks: each call returns when it is done."""

from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import httpx
import numpy.typing as npt

from photoz.grid import IntArray
from photoz.io.cutouts import ImageSource
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse
from photoz_client import _core
from photoz_client._galaxies import Galaxies
from photoz_client._io import BlockingIo, finish
from photoz_client._keys import auth_of
from photoz_client._prediction import Prediction
from photoz_client._progress import Progress, shown
from photoz_client._retries import DEFAULT_RETRIES, Retries
from photoz_client._run import PredictionRun
from photoz_client._service import Service

# A second request fills the time in which the service would wait for the next one; more of them help several workers.
IN_FLIGHT = 4


class PhotozClient:
    """A connection to one photo-z service; close it, or use it in a `with` block. Threads may share it.

    Parameters
    ----------
    base_url : str
        Such as "http://127.0.0.1:3000".
    api_key : str, optional
        What a service with keys wants to see; without it the environment variable PHOTOZ_API_KEY, where that is set.
    timeout : float or None
        Seconds that connecting, sending and answering may each take; None waits for ever.
    in_flight : int
        How many requests of one prediction are on their way at once, and so held in memory; 1 also uses no threads.
    retries : Retries
        When a request is sent again; `Retries(attempts=1)` is never.
    http : httpx.Client, optional
        To be used in place of one of its own, with its headers, proxies or certificates. It stays open. Its own
        `Authorization`, if it has one, goes before PHOTOZ_API_KEY, and an `api_key` before both.

    Raises
    ------
    InvalidUrl, InvalidInput
        If an argument cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float | None = 30.0,
        in_flight: int = IN_FLIGHT,
        retries: Retries = DEFAULT_RETRIES,
        http: httpx.Client | None = None,
    ) -> None:
        auth = auth_of(api_key, http)
        self._owns_http = http is None
        self._http = http or httpx.Client(**_core.http_options())
        self._service = Service(base_url, auth, timeout, retries, in_flight, BlockingIo(self._http))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PhotozClient({self._service.shown_url!r})"

    def close(self) -> None:
        """Close the connections, unless they belong to an `http` that was given."""
        if self._owns_http:
            self._http.close()

    def predict(
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
            Cutouts in the unit that the model's card names, or one without the first axis. NaN is a masked pixel. Any
            number of them: they travel in parts.
        ebv : float or (n,) array_like of float, optional
            E(B-V) in mag (SFD), one for all or one for each; NaN is unknown.
        object_id : (n,) array_like, optional
            Names of the galaxies; "0", "1", ... without.
        pdf : bool
            Return the PDFs too.
        progress : bool or callable
            Show a bar on a terminal's standard error; or a function to call with the number of rows of each part that
            is done with, such as `tqdm(total=n).update`.

        Returns
        -------
        Prediction
            n rows, in order.

        Raises
        ------
        PredictionIncomplete
            If some rows failed while others did not: it names them, and carries the estimates of the others.
        InvalidInput
            If the input cannot be used, whether noticed here or there.
        PhotozClientError
            If the service does not answer, or answers with something else.
        OSError
            If images that are on disk cannot be read.
        """
        return finish(_core.predict(self._service, images, ebv, object_id, pdf, progress))

    def predict_parts(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> Iterator[tuple[IntArray, Prediction]]:
        """Estimate redshifts, handed out as they come: for more galaxies than estimates fit into memory.

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
            At the end, if some rows failed while others did not; without the estimates, which you have.
        InvalidInput, PhotozClientError, OSError
            As `predict` does.
        """
        return self._parts(Galaxies.of(images, ebv, object_id), pdf, progress)

    def _parts(self, galaxies: Galaxies, pdf: bool, progress: Progress) -> Iterator[tuple[IntArray, Prediction]]:
        with shown(progress, len(galaxies)) as tell:
            run = PredictionRun(self._service, galaxies, pdf, tell)
            try:
                while (part := finish(run.next())) is not None:
                    yield part
            finally:
                finish(run.close())
        run.check()

    def evaluate(
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
            As in `predict`. Either these or `pdfs`.
        pdfs : (n, n_bins) array_like of float, optional
            Probability mass per bin of the model's grid.
        ebv, object_id
            As in `predict`.

        Returns
        -------
        EvaluateResponse
            `scores` maps each figure of merit to its `value` and bootstrap `error`; `dropped` names the galaxies
            whose z_spec is not on the grid.

        Raises
        ------
        InvalidInput
            If the input cannot be used, whether noticed here or there.
        PhotozClientError
            If the service does not answer, or answers with something else.
        """
        return finish(_core.scores(self._service, z_spec, images, pdfs, ebv, object_id))

    def evaluate_report(
        self,
        z_spec: npt.ArrayLike,
        *,
        images: npt.ArrayLike | ImageSource | None = None,
        pdfs: npt.ArrayLike | None = None,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        magnitudes: npt.ArrayLike | None = None,
    ) -> str:
        """Return one self-contained HTML page of figures and plots; raises what `evaluate` does.

        Parameters
        ----------
        z_spec, images, pdfs, ebv, object_id
            As in `evaluate`.
        magnitudes : (n,) or (n, n_bands) array_like of float, optional
            The page then shows the residuals by magnitude, of several bands by that of r.

        Returns
        -------
        str
            HTML that needs no other file.
        """
        galaxies = (z_spec, images, pdfs, ebv, object_id)
        return finish(_core.report(self._service, *galaxies, magnitudes=magnitudes))

    def evaluate_plot(
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
        """Return one plot; raises what `evaluate` does.

        Parameters
        ----------
        z_spec, images, pdfs, ebv, object_id
            As in `evaluate`.
        plot : str
            "scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked" or another that the service knows.
        format : {"png", "svg"}
            Of the image.
        num_images, seed : int
            How many panels the plot "pdfs" has, and the seed of their choice.

        Returns
        -------
        bytes
            The image file.
        """
        galaxies = (z_spec, images, pdfs, ebv, object_id)
        return finish(_core.plot(self._service, *galaxies, plot=plot, format=format, num_images=num_images, seed=seed))

    def model(self) -> Card:
        """Return the card of the model that the service runs: grid, bands, size and unit of the cutouts, scores.

        Raises
        ------
        PhotozClientError
            If the service does not answer, or answers with something else.
        """
        return finish(_core.model(self._service))

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the service is ready to predict.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most.

        Raises
        ------
        TimedOut
            If it is not ready by then; the message says what it was instead.
        PhotozClientError
            At once if something else than a photo-z service answers.
        """
        finish(_core.wait_until_ready(self._service, timeout))
