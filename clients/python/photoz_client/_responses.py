"""The responses of the service: pure functions from HTTP responses to results or errors."""

import json
import time
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from photoz.errors import MalformedInput, counted, printable, shortened
from photoz.estimates import Names
from photoz.grid import RedshiftGrid
from photoz.model.card import Name
from photoz.protocol import open_inference
from photoz.protocol.contract import MODEL_HEADER
from photoz_client import _errors
from photoz_client._auth import ENVIRONMENT_VARIABLE
from photoz_client._inputs import counted_from
from photoz_client._prediction import Prediction
from photoz_client._requests import ANY_TYPE, ESTIMATES, PreparedRequest, redact_url

Message = TypeVar("Message", bound=BaseModel)

MAX_TEXT = 1000  # characters of a text of the service in messages

_NAME = TypeAdapter(Name)


def check_response(response: httpx.Response, request: PreparedRequest) -> httpx.Response:
    """Return a response of status 200 and the requested media type; raise the matching error for any other."""
    if response.status_code != 200:
        raise _error(response, request)
    accept = request.headers["Accept"]
    media_type = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if accept not in (ANY_TYPE, media_type):
        raise _unexpected(response, f"answered with {media_type or 'no media type'}, not {accept}")
    return response


def parse_prediction(response: httpx.Response, object_id: Names) -> Prediction:
    """Read the prediction for n cutouts with the names `object_id` (n,); unknown columns are ignored."""
    try:
        header_length = open_inference.read_header_length(response.headers.get(open_inference.HEADER_LENGTH))
        answer = open_inference.decode_response(response.content, header_length)
        outputs, grid = answer.outputs, RedshiftGrid(**answer.parameters) if answer.parameters else None
    except ValidationError as error:
        raise _unexpected(response, f"gave an answer that cannot be read: {_first(error)}") from error
    except (MalformedInput, TypeError) as error:
        raise _unexpected(response, f"gave an answer that cannot be read: {error}") from error
    if missing := [name for name in ESTIMATES if name not in outputs]:
        raise _unexpected(response, f"answered without {', '.join(missing)}")
    # The tensors are views of the response. Copies are writable, and do not keep the response in memory.
    columns = {name: outputs[name].array.copy() for name in (*ESTIMATES, "pdf") if name in outputs}
    n = len(object_id)
    for name, values in columns.items():
        n_bins = values.shape[1:] if grid is None else (grid.n_bins,)
        shape, kind = (n, *n_bins) if name == "pdf" else (n,), "i" if name == "flags" else "f"
        if values.shape != shape or values.dtype.kind != kind:
            found = f"{values.dtype} of shape {values.shape}"
            raise _unexpected(response, f"answered {counted(n, 'cutout')} with {name} as {found}, not {shape}")
    return Prediction(object_id=object_id, **columns, model=_printed(response.headers.get(MODEL_HEADER, "")), grid=grid)


def parse_model_name(response: httpx.Response) -> str:
    """Read the name of the only model in the model index."""
    try:
        (model,) = json.loads(response.content)
        return _NAME.validate_python(model["name"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unexpected(response, "answered without the name of one model") from error


def parse_json(response: httpx.Response, message: type[Message]) -> Message:
    """Read a message of the HTTP contract."""
    try:
        return message.model_validate_json(response.content)
    except ValidationError as error:
        text = f"gave an answer that this version of the client does not understand: {_first(error)}"
        raise _unexpected(response, text) from error


def _first(error: ValidationError) -> str:
    """Describe the first thing that is wrong with a message."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}"


def _error(response: httpx.Response, request: PreparedRequest) -> _errors.PhotozClientError:
    """Return the error for a status other than 200; a proxy may have sent it, without the service's JSON."""
    status, message = response.status_code, _service_message(response)
    text = message or _printed(f"{status} {response.reason_phrase}")
    url = redact_url(response.url)
    match status:
        case 401:
            return _errors.NotAuthorised(status, f"{text} ({_key_hint(response)})")
        case 403:
            return _errors.NotAuthorised(status, text)
        case 408:
            return _errors.TooSlowForService(status, text)
        case 413:
            return _errors.TooLargeForService(status, text)
        case 431:
            return _errors.RequestRefused(status, text)
        case 429:
            return _errors.ServiceBusy(f"the service at {url} is busy: {text}", _retry_after(response))
        case 502 | 503:
            return _errors.ServiceUnavailable(f"the service at {url} is not available: {text}", _retry_after(response))
        case 504:
            return _errors.TimedOut(f"the service at {url} timed out: {text}")
        case _ if status >= 500:
            return _errors.ServiceFailed(f"the service at {url} failed: {text}")
        case _ if message is None:
            return _unexpected(response, f"answered {text}, which a photoz service does not: is the URL right?")
        case 400 | 422:
            return _errors.BadInput(status, counted_from(request.first_row, message))
        case _:
            return _errors.RequestRefused(status, message)


def _key_hint(response: httpx.Response) -> str:
    """Say whether the key is missing or wrong, without showing it."""
    if "Authorization" in response.request.headers:
        return f"{redact_url(response.url)} does not accept the API key that was sent"
    return f"no API key was sent: set {ENVIRONMENT_VARIABLE}, api_key or --api-key-file"


def _service_message(response: httpx.Response) -> str | None:
    """Return the error message of the service; None if the response is not the service's JSON."""
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    message = content.get("error") if isinstance(content, dict) else None
    return _printed(message) if isinstance(message, str) else None


def _retry_after(response: httpx.Response) -> float | None:
    """Return Retry-After in seconds; a date is relative to the response's Date header, else to the local clock."""
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


def _unexpected(response: httpx.Response, text: str) -> _errors.UnexpectedResponse:
    return _errors.UnexpectedResponse(f"{redact_url(response.url)} {_printed(text)}")


def _printed(text: str) -> str:
    """Return a text of the service as one that a terminal may print."""
    return printable(shortened(text, MAX_TEXT))
