"""The asyncio client: each call is awaited."""

from collections.abc import AsyncIterator
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
from photoz_client._backends import AsyncBackend
from photoz_client._client import IN_FLIGHT
from photoz_client._connection import ServiceConnection
from photoz_client._inputs import EvaluateInputs, PredictInputs, WireDtype
from photoz_client._prediction import Prediction
from photoz_client._progress import Progress
from photoz_client._retries import DEFAULT_RETRIES, Retries
from photoz_client._run import PredictionRun


class AsyncPhotozClient:
    """`PhotozClient` for asyncio: the same methods, awaited; use it in an `async with` block.

    Parameters
    ----------
    base_url, api_key, timeout, in_flight, retries, wire_dtype
        As for `PhotozClient`.
    http : httpx.AsyncClient, optional
        A client to use instead of our own, with its headers, proxies or certificates. It is not closed.

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
        http: httpx.AsyncClient | None = None,
    ) -> None:
        auth = find_auth(api_key, http)
        self._owns_http = http is None
        self._http = http or httpx.AsyncClient(**_core.http_options())
        backend = AsyncBackend(self._http)
        self._connection = ServiceConnection(base_url, auth, timeout, retries, in_flight, wire_dtype, backend)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncPhotozClient({self._connection.redacted_url!r})"

    async def aclose(self) -> None:
        """Close the connections, unless they belong to an `http` that was given."""
        if self._owns_http:
            await self._http.aclose()

    async def predict(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> Prediction:
        """Estimate redshifts: see `PhotozClient.predict`."""
        inputs = PredictInputs.of(images, ebv, object_id)
        return await _core.predict(self._connection, inputs, pdf, progress)

    def predict_parts(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> AsyncIterator[tuple[IntArray, Prediction]]:
        """Estimate redshifts part by part, for an `async for`: see `PhotozClient.predict_parts`."""
        inputs = PredictInputs.of(images, ebv, object_id)
        return PredictionRun(self._connection, inputs, pdf, progress).parts()

    async def evaluate(
        self,
        z_spec: npt.ArrayLike,
        *,
        images: npt.ArrayLike | ImageSource | None = None,
        pdfs: npt.ArrayLike | None = None,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
    ) -> EvaluateResponse:
        """Score redshifts against the true ones: see `PhotozClient.evaluate`."""
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id)
        return await _core.evaluate(self._connection, inputs)

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
        """Return one self-contained HTML page of metrics and plots: see `PhotozClient.evaluate_report`."""
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id, magnitudes)
        return await _core.evaluate_report(self._connection, inputs)

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
        """Return one plot: see `PhotozClient.evaluate_plot`."""
        inputs = EvaluateInputs(z_spec, images, pdfs, ebv, object_id)
        return await _core.evaluate_plot(self._connection, inputs, plot, format, num_images, seed)

    async def model(self) -> Card:
        """Return the card of the service's model: see `PhotozClient.model`."""
        return await _core.model(self._connection)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the service is ready to predict: see `PhotozClient.wait_until_ready`."""
        await _core.wait_until_ready(self._connection, timeout)
