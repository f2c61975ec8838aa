"""The answers of the service: pure functions from HTTP responses to results or errors."""

import json
import time
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from photoz.errors import MalformedInput
from photoz.model.card import Card
from photoz.protocol import open_inference
from photoz.protocol.contract import MODEL_HEADER, EvaluateResponse
from photoz_client import _errors
from photoz_client._auth import ENVIRONMENT_VARIABLE
from photoz_client._prediction import Prediction
from photoz_client._requests import ANY_TYPE, ESTIMATES, Request, redact_url

# Statuses that mean the same from the service and from a proxy, which sends no message of the service.
REFUSALS = {
    403: _errors.NotAuthorised,
    408: _errors.TooSlowForService,
    413: _errors.TooLargeForService,
    431: _errors.RequestRefused,
}

Model = TypeVar("Model", bound=BaseModel)


def check_response(response: httpx.Response, request: Request) -> httpx.Response:
    """Return a response of status 200 and the requested media type; raise the matching error for any other."""
    if response.status_code != 200:
        raise _error(response, request)
    if request.accept != ANY_TYPE and (found := _media_type(response)) != request.accept:
        raise _errors.UnexpectedResponse(
            f"{_url(response)} answered with {found or 'no media type'}, not {request.accept}"
        )
    return response


def parse_prediction(response: httpx.Response, object_id: npt.NDArray[np.str_]) -> Prediction:
    """Read a prediction for the n cutouts that were sent, whose names (n,) are given; unknown columns are ignored."""
    try:
        header_length = open_inference.read_header_length(response.headers.get(open_inference.HEADER_LENGTH))
        outputs = open_inference.decode_response(response.content, header_length).outputs
    except MalformedInput as error:
        raise _errors.UnexpectedResponse(f"{_url(response)} gave an answer that cannot be read: {error}") from error
    if missing := [name for name in ESTIMATES if name not in outputs]:
        raise _errors.UnexpectedResponse(f"{_url(response)} answered without {', '.join(missing)}")
    # The tensors are views of the response. Copies can be written to, and do not keep the response in memory.
    columns = {name: outputs[name].array.copy() for name in (*ESTIMATES, "pdf") if name in outputs}
    n = len(object_id)
    if lengths := {values.shape[:1] for values in columns.values()} - {(n,)}:
        raise _errors.UnexpectedResponse(f"{_url(response)} answered {n} cutouts with columns of {lengths.pop()} rows")
    return Prediction(object_id=object_id, **columns, model=response.headers.get(MODEL_HEADER, ""))


def parse_model_name(response: httpx.Response) -> str:
    """Read the name of the only model in the model index."""
    try:
        (model,) = json.loads(response.content)
        return str(model["name"])
    except (ValueError, TypeError, KeyError) as error:
        raise _errors.UnexpectedResponse(f"{_url(response)} answered without the name of one model") from error


def parse_scores(response: httpx.Response) -> EvaluateResponse:
    """Read the scores of an evaluation."""
    return _parse(response, EvaluateResponse)


def parse_card(response: httpx.Response) -> Card:
    """Read the model's card."""
    return _parse(response, Card)


def _parse(response: httpx.Response, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        message = f"{_url(response)} gave an answer that this version of the client does not understand: {error}"
        raise _errors.UnexpectedResponse(message) from error


def _error(response: httpx.Response, request: Request) -> _errors.PhotozClientError:
    """Return the error for a status other than 200, which may come from a proxy, without the service's JSON."""
    status, message = response.status_code, _service_message(response)
    text = message or f"{status} {response.reason_phrase}"
    url = _url(response)
    match status:
        case 401:
            return _errors.NotAuthorised(status, f"{text} ({_key_hint(response)})")
        case 403 | 408 | 413 | 431:
            return REFUSALS[status](status, text)
        case 429:
            return _errors.ServiceBusy(f"the service at {url} is busy: {text}", _retry_after(response))
        case 502 | 503:
            return _errors.ServiceUnavailable(f"the service at {url} is not available: {text}", _retry_after(response))
        case 504:
            return _errors.TimedOut(f"the service at {url} timed out: {text}")
        case _ if status >= 500:
            return _errors.ServiceFailed(f"the service at {url} failed: {text}")
        case _ if message is None:
            return _errors.UnexpectedResponse(
                f"{url} answered {text}, which a photoz service does not: is the URL right?"
            )
        case 400 | 422:
            first = request.first_row
            return _errors.BadInput(status, f"{message} (counted from cutout {first} on)" if first else message)
        case _:
            return _errors.RequestRefused(status, message)


def _key_hint(response: httpx.Response) -> str:
    """Say whether the key is missing or wrong, without showing it."""
    if "Authorization" in response.request.headers:
        return f"{_url(response)} does not accept the API key that was sent"
    return f"no API key was sent: set {ENVIRONMENT_VARIABLE}, api_key or --api-key-file"


def _service_message(response: httpx.Response) -> str | None:
    """Return the error message of the service; None if the answer is not its JSON."""
    try:
        content = json.loads(response.content)
    except ValueError:
        return None
    message = content.get("error") if isinstance(content, dict) else None
    return message if isinstance(message, str) else None


def _retry_after(response: httpx.Response) -> float | None:
    """Return Retry-After in seconds; a date is compared with the service's own clock if the answer shows it."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    until = _timestamp(value)
    now = _timestamp(response.headers.get("date", "")) or time.time()
    return None if until is None else max(0.0, until - now)


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _url(response: httpx.Response) -> str:
    return redact_url(response.url)
