"""What the methods of both clients do, written once, as coroutines."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from photoz import __version__
from photoz.errors import InvalidInput
from photoz.model.card import Card
from photoz.protocol.contract import HTML, JSON, PNG, SVG, EvaluateResponse
from photoz_client import _requests, _responses
from photoz_client._connection import ServiceConnection
from photoz_client._errors import ConnectionFailed, ServiceUnavailable, TimedOut
from photoz_client._inputs import EvaluateInputs, PredictInputs
from photoz_client._prediction import Prediction, PredictionIncomplete, join
from photoz_client._progress import Progress
from photoz_client._run import PredictionRun

# Seconds; shorter than the idle timeout of the service (10 s by default), which may close a connection as it is reused.
KEEPALIVE_EXPIRY = 3.0

# Seconds between two checks whether the service is ready.
POLL_INTERVAL = 0.2

IMAGE_TYPES = {"png": PNG, "svg": SVG}


def http_options() -> dict[str, Any]:
    """Return the options of our own httpx client; `in_flight` limits the number of its connections."""
    return {
        "headers": {"User-Agent": f"photoz-client/{__version__}"},
        "limits": httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_EXPIRY),
    }


async def predict(
    connection: ServiceConnection, inputs: PredictInputs, pdf: bool = False, progress: Progress = False
) -> Prediction:
    predictions: list[Prediction] = []
    try:
        async for _, prediction in PredictionRun(connection, inputs, pdf, progress).parts():
            predictions.append(prediction)
    except PredictionIncomplete as error:
        raise PredictionIncomplete(error.n, error.failed, join(predictions)) from None
    return join(predictions)


async def evaluate(connection: ServiceConnection, inputs: EvaluateInputs) -> EvaluateResponse:
    return _responses.parse_scores(await _evaluate(connection, inputs, JSON))


async def evaluate_report(connection: ServiceConnection, inputs: EvaluateInputs) -> str:
    return (await _evaluate(connection, inputs, HTML)).text


async def evaluate_plot(
    connection: ServiceConnection, inputs: EvaluateInputs, plot: str, format: str, num_images: int, seed: int
) -> bytes:
    if format not in IMAGE_TYPES:
        raise InvalidInput(f"expected format {' or '.join(IMAGE_TYPES)}, got {format!r}")
    params = {"plot": plot, "num_images": str(num_images), "seed": str(seed)}
    return (await _evaluate(connection, inputs, IMAGE_TYPES[format], params)).content


async def _evaluate(
    connection: ServiceConnection, inputs: EvaluateInputs, accept: str, params: Mapping[str, str] | None = None
) -> httpx.Response:
    images = inputs.images if inputs.pdfs is None else None
    if images is not None and PredictInputs.of(images).needs_several_requests():
        pdfs = (await predict(connection, PredictInputs.of(images, inputs.ebv), pdf=True)).pdf
        inputs = replace(inputs, images=None, pdfs=pdfs)
    return await connection.send(lambda: _requests.evaluate_request(inputs, accept, params), lambda response: response)


async def model(connection: ServiceConnection) -> Card:
    return await connection.send(lambda: _requests.MODEL_CARD, _responses.parse_card)


async def wait_until_ready(connection: ServiceConnection, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    never = connection.backend.event()
    while True:
        try:
            await connection.send_once(_requests.READY, max(deadline - time.monotonic(), POLL_INTERVAL))
            return
        except (ConnectionFailed, ServiceUnavailable, TimedOut) as error:
            if time.monotonic() > deadline:
                raise TimedOut(f"the service was not ready after {timeout:g} s: {error}") from error
        await connection.backend.sleep(POLL_INTERVAL, never)
