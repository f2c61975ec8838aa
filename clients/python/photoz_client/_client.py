"""The blocking client: each call returns when it is done."""

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
from photoz_client._auth import find_auth
from photoz_client._backends import BlockingBackend, iterate_blocking, run_blocking
from photoz_client._connection import ServiceConnection
from photoz_client._inputs import EvaluateInputs, PredictInputs, WireDtype
from photoz_client._prediction import Prediction
from photoz_client._progress import Progress
from photoz_client._retries import DEFAULT_RETRIES, Retries
from photoz_client._run import PredictionRun

# While one request is transferred, the service works on a second; more than two keep several workers busy.
IN_FLIGHT = 4


class PhotozClient:
    """A connection to one photo-z service; close it, or use it in a `with` block. Threads may share it.

    Parameters
    ----------
    base_url : str
        Such as "http://127.0.0.1:3000".
    api_key : str, optional
        API key of the service; by default that of the environment variable PHOTOZ_API_KEY, if it is set.
    timeout : float or None
        Seconds that connecting, sending and answering may each take; None sets no limit.
    in_flight : int
        How many requests of one prediction are sent concurrently, and so held in memory; with 1, no threads are used.
    retries : Retries
        When a request is sent again; `Retries(attempts=1)` disables retries.
    wire_dtype : {"float32", "float16"}
        Number type of the pixels that `predict` sends. "float16" halves the bytes and changes each pixel by 0.05 % at
        most; pixels that it cannot hold raise `InvalidImages`. Types of two bytes or less are sent as they are.
    http : httpx.Client, optional
        A client to use instead of our own, with its headers, proxies or certificates. It is not closed. Credentials
        that it has take precedence over PHOTOZ_API_KEY, and `api_key` takes precedence over both.

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
        wire_dtype: WireDtype = "float32",
        http: httpx.Client | None = None,
    ) -> None:
        auth = find_auth(api_key, http)
        self._owns_http = http is None
        self._http = http or httpx.Client(**_core.http_options())
        backend = BlockingBackend(self._http)
        self._connection = ServiceConnection(base_url, auth, timeout, retries, in_flight, wire_dtype, backend)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PhotozClient({self._connection.redacted_url!r})"

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
            Cutouts in the unit of the model's card, or one cutout without the first axis. NaN is a masked pixel. Any
            number of cutouts is sent, in parts.
        ebv : float or (n,) array_like of float, optional
            E(B-V) in mag (SFD), one for all or one for each; NaN is unknown.
        object_id : (n,) array_like, optional
            Names of the galaxies; "0", "1", ... by default.
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
            If some rows failed and others did not: it names them, and carries the estimates of the others.
        InvalidInput
            If the client or the service finds that the input cannot be used.
        PhotozClientError
            If the service does not answer, or answers with something else.
        OSError
            If images on disk cannot be read.
        """
        inputs = PredictInputs.of(images, ebv, object_id)
        return run_blocking(_core.predict(self._connection, inputs, pdf, progress))

    def predict_parts(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> Iterator[tuple[IntArray, Prediction]]:
        """Estimate redshifts part by part: for more galaxies than estimates fit into memory.

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
        return iterate_blocking(PredictionRun(self._connection, inputs, pdf, progress).parts())

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
            `scores` maps each metric to its `value` and bootstrap `error`; `dropped` names the galaxies whose z_spec
            is not on the grid.

        Raises
        ------
        InvalidInput, PhotozClientError
            As in `predict`.
        """
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id)
        return run_blocking(_core.evaluate(self._connection, inputs))

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
        """Return one self-contained HTML page of metrics and plots; raises what `evaluate` does.

        Parameters
        ----------
        z_spec, images, pdfs, ebv, object_id
            As in `evaluate`.
        magnitudes : (n,) or (n, n_bands) array_like of float, optional
            Adds the residuals by magnitude to the page; of several bands, r is used.
        """
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id, magnitudes)
        return run_blocking(_core.evaluate_report(self._connection, inputs))

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
        """Return one plot as an image file; raises what `evaluate` does.

        Parameters
        ----------
        z_spec, images, pdfs, ebv, object_id
            As in `evaluate`.
        plot : str
            "scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked" or another that the service knows.
        format : {"png", "svg"}
            Format of the image.
        num_images, seed : int
            How many panels the plot "pdfs" has, and the seed that chooses their galaxies.
        """
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id)
        return run_blocking(_core.evaluate_plot(self._connection, inputs, plot, format, num_images, seed))

    def model(self) -> Card:
        """Return the card of the service's model: grid, bands, size and unit of the cutouts, scores."""
        return run_blocking(_core.model(self._connection))

    def wait_until_ready(self, timeout: float = 60.0) -> None:
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
        run_blocking(_core.wait_until_ready(self._connection, timeout))
