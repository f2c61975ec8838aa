"""All that a client does, written once for the blocking and the asynchronous one."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx
import numpy.typing as npt

from photoz import __version__
from photoz.errors import InvalidInput
from photoz.io.cutouts import ImageSource
from photoz.model.card import Card
from photoz.protocol.contract import HTML, JSON, PNG, SVG, EvaluateResponse
from photoz_client import _requests, _responses
from photoz_client._errors import ConnectionFailed, ServiceUnavailable, TimedOut
from photoz_client._galaxies import Galaxies
from photoz_client._prediction import Prediction, join
from photoz_client._progress import Progress, shown
from photoz_client._run import Part, PredictionRun
from photoz_client._service import Service

# The server drops a connection that has been idle for 5 s; one that is used at that very moment breaks.
KEEPALIVE_EXPIRY = 3.0

# Seconds between two questions whether the service is ready.
POLL_INTERVAL = 0.2

IMAGE_TYPES = {"png": PNG, "svg": SVG}


def http_options() -> dict[str, Any]:
    """Options of a client of httpx of our own; the number of its connections is that of the requests in flight."""
    return {
        "headers": {"User-Agent": f"photoz-client/{__version__}"},
        "limits": httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_EXPIRY),
    }


async def predict(
    service: Service,
    images: npt.ArrayLike | ImageSource,
    ebv: npt.ArrayLike | None = None,
    object_id: npt.ArrayLike | None = None,
    pdf: bool = False,
    progress: Progress = False,
) -> Prediction:
    """See `PhotozClient.predict`."""
    galaxies = Galaxies.of(images, ebv, object_id)
    done: list[Part] = []
    with shown(progress, len(galaxies)) as tell:
        run = PredictionRun(service, galaxies, pdf, tell)
        try:
            while (part := await run.next()) is not None:
                done.append(part)
        finally:
            await run.close()
    run.check(done)
    return join([prediction for _, prediction in done])


async def evaluate(
    service: Service,
    z_spec: npt.ArrayLike,
    images: npt.ArrayLike | ImageSource | None,
    pdfs: npt.ArrayLike | None,
    ebv: npt.ArrayLike | None,
    object_id: npt.ArrayLike | None,
    *,
    accept: str = JSON,
    magnitudes: npt.ArrayLike | None = None,
    params: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Return the service's answer to an evaluation; images that are too many for one request are predicted first."""
    if images is not None and pdfs is None and Galaxies.of(images).takes_parts():
        pdfs = (await predict(service, images, ebv, pdf=True)).pdf
        images = None
    build = partial(_requests.evaluate_call, z_spec, images, pdfs, ebv, object_id, magnitudes, accept, params)
    return await service.ask(build, _responses.unread)


async def scores(service: Service, *galaxies: Any) -> EvaluateResponse:
    """See `PhotozClient.evaluate`."""
    return _responses.evaluation(await evaluate(service, *galaxies))


async def report(service: Service, *galaxies: Any, magnitudes: npt.ArrayLike | None) -> str:
    """See `PhotozClient.evaluate_report`."""
    return (await evaluate(service, *galaxies, accept=HTML, magnitudes=magnitudes)).text


async def plot(service: Service, *galaxies: Any, plot: str, format: str, num_images: int, seed: int) -> bytes:
    """See `PhotozClient.evaluate_plot`."""
    if format not in IMAGE_TYPES:
        raise InvalidInput(f"expected format {' or '.join(IMAGE_TYPES)}, got {format!r}")
    params = {"plot": plot, "num_images": str(num_images), "seed": str(seed)}
    return (await evaluate(service, *galaxies, accept=IMAGE_TYPES[format], params=params)).content


async def model(service: Service) -> Card:
    """See `PhotozClient.model`."""
    return await service.ask(_requests.model_call, _responses.card)


async def wait_until_ready(service: Service, timeout: float) -> None:
    """See `PhotozClient.wait_until_ready`."""
    deadline = time.monotonic() + timeout
    never = service.io.stop_signal()
    while True:
        try:
            await service.ask_once(_requests.ready_call(), max(deadline - time.monotonic(), POLL_INTERVAL))
            return
        except (ConnectionFailed, ServiceUnavailable, TimedOut) as error:
            if time.monotonic() > deadline:
                raise TimedOut(f"waited {timeout:g} s in vain: {error}") from error
        await never.pause(POLL_INTERVAL)
