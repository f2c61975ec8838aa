"""The client for asyncio: each call is awaited."""

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
from photoz_client._client import IN_FLIGHT
from photoz_client._galaxies import Galaxies
from photoz_client._io import AsyncIo
from photoz_client._keys import auth_of
from photoz_client._prediction import Prediction
from photoz_client._progress import Progress, shown
from photoz_client._retries import DEFAULT_RETRIES, Retries
from photoz_client._run import PredictionRun
from photoz_client._service import Service


class AsyncPhotozClient:
    """`PhotozClient` for asyncio: the same methods, awaited; use it in an `async with` block.

    Parameters
    ----------
    base_url, api_key, timeout, in_flight, retries
        As of `PhotozClient`.
    http : httpx.AsyncClient, optional
        To be used in place of one of its own, with its headers, proxies or certificates. It stays open.

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
        http: httpx.AsyncClient | None = None,
    ) -> None:
        auth = auth_of(api_key, http)
        self._owns_http = http is None
        self._http = http or httpx.AsyncClient(**_core.http_options())
        self._service = Service(base_url, auth, timeout, retries, in_flight, AsyncIo(self._http))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncPhotozClient({self._service.shown_url!r})"

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
        return await _core.predict(self._service, images, ebv, object_id, pdf, progress)

    def predict_parts(
        self,
        images: npt.ArrayLike | ImageSource,
        *,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
        pdf: bool = False,
        progress: Progress = False,
    ) -> AsyncIterator[tuple[IntArray, Prediction]]:
        """Estimate redshifts, handed out as they come by an `async for`: see `PhotozClient.predict_parts`."""
        return self._parts(Galaxies.of(images, ebv, object_id), pdf, progress)

    async def _parts(
        self, galaxies: Galaxies, pdf: bool, progress: Progress
    ) -> AsyncIterator[tuple[IntArray, Prediction]]:
        with shown(progress, len(galaxies)) as tell:
            run = PredictionRun(self._service, galaxies, pdf, tell)
            try:
                while (part := await run.next()) is not None:
                    yield part
            finally:
                await run.close()
        run.check()

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
        return await _core.scores(self._service, z_spec, images, pdfs, ebv, object_id)

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
        """Return one self-contained HTML page of figures and plots: see `PhotozClient.evaluate_report`."""
        galaxies = (z_spec, images, pdfs, ebv, object_id)
        return await _core.report(self._service, *galaxies, magnitudes=magnitudes)

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
        galaxies = (z_spec, images, pdfs, ebv, object_id)
        return await _core.plot(self._service, *galaxies, plot=plot, format=format, num_images=num_images, seed=seed)

    async def model(self) -> Card:
        """Return the card of the model that the service runs: see `PhotozClient.model`."""
        return await _core.model(self._service)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the service is ready to predict: see `PhotozClient.wait_until_ready`."""
        await _core.wait_until_ready(self._service, timeout)
