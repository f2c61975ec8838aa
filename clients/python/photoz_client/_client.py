"""The client: thin, since requests are built and responses read by pure functions."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

import httpx
import numpy.typing as npt

from photoz import __version__
from photoz.card import Card
from photoz.contract import HTML, JSON, PNG, SVG, EvaluateResponse
from photoz.datasets import ImageSource
from photoz.errors import InvalidInput
from photoz_client import _requests, _responses
from photoz_client._errors import ConnectionFailed, ServiceUnavailable, TimedOut, httpx_errors_translated
from photoz_client._prediction import Prediction, join

# The server drops a connection that has been idle for 5 s; one that is used at that very moment breaks.
KEEPALIVE_EXPIRY = 3.0

# Seconds between two questions whether the service is ready.
POLL_INTERVAL = 0.2

IMAGE_TYPES = {"png": PNG, "svg": SVG}


class PhotozClient:
    """A connection to one photo-z service; close it, or use it in a `with` block.

    Parameters
    ----------
    base_url : str
        Such as "http://127.0.0.1:3000".
    timeout : float or None
        Seconds that connecting, sending and answering may each take; None waits for ever.
    http : httpx.Client, optional
        To be used in place of one of its own, with its headers, proxies or certificates. It stays open.

    Raises
    ------
    InvalidUrl
        If the URL is not one.
    """

    def __init__(self, base_url: str, *, timeout: float | None = 30.0, http: httpx.Client | None = None) -> None:
        self._base_url = _requests.checked_url(base_url)
        self._timeout = timeout
        self._owns_http = http is None
        self._http = http or httpx.Client(
            headers={"User-Agent": f"photoz-client/{__version__}"},
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PhotozClient({self._base_url!r})"

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

        Returns
        -------
        Prediction
            n rows.

        Raises
        ------
        InvalidInput
            If the input cannot be used, whether noticed here or there.
        PhotozClientError
            If the service does not answer, or answers with something else.
        """
        calls = _requests.predict_calls(images, ebv, object_id, pdf)
        return join([_responses.prediction(self._send(call)) for call in calls])

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
        return _responses.evaluation(self._evaluate(z_spec, images, pdfs, ebv, object_id))

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
        return self._evaluate(z_spec, images, pdfs, ebv, object_id, HTML, magnitudes=magnitudes).text

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
        if format not in IMAGE_TYPES:
            raise InvalidInput(f"expected format {' or '.join(IMAGE_TYPES)}, got {format!r}")
        params = {"plot": plot, "num_images": str(num_images), "seed": str(seed)}
        return self._evaluate(z_spec, images, pdfs, ebv, object_id, IMAGE_TYPES[format], params=params).content

    def model(self) -> Card:
        """Return the card of the model that the service runs: grid, bands, size and unit of the cutouts, scores.

        Raises
        ------
        PhotozClientError
            If the service does not answer, or answers with something else.
        """
        return _responses.card(self._send(_requests.model_call()))

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
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._send(_requests.ready_call(), max(deadline - time.monotonic(), POLL_INTERVAL))
                return
            except (ConnectionFailed, ServiceUnavailable, TimedOut) as error:
                if time.monotonic() > deadline:
                    raise TimedOut(f"waited {timeout:g} s in vain: {error}") from error
            time.sleep(POLL_INTERVAL)

    def _evaluate(
        self,
        z_spec: npt.ArrayLike,
        images: npt.ArrayLike | ImageSource | None,
        pdfs: npt.ArrayLike | None,
        ebv: npt.ArrayLike | None,
        object_id: npt.ArrayLike | None,
        accept: str = JSON,
        magnitudes: npt.ArrayLike | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        if images is not None and pdfs is None and _requests.takes_parts(images):
            pdfs = self.predict(images, ebv=ebv, pdf=True).pdf
            images = None
        return self._send(_requests.evaluate_call(z_spec, images, pdfs, ebv, object_id, magnitudes, accept, params))

    def _send(self, call: _requests.Call, timeout: float | None = None) -> httpx.Response:
        timeout = self._timeout if timeout is None else timeout
        with httpx_errors_translated(self._base_url, timeout):
            response = self._http.request(
                call.method,
                self._base_url + call.path,
                params=call.params,
                headers=call.headers,
                content=call.content,
                timeout=timeout,
            )
        return _responses.check(response, call)
