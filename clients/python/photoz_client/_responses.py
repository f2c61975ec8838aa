"""What the service answers: pure functions from responses to results or to the errors of the tree."""

import json
import time
from email.utils import parsedate_to_datetime

import httpx
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from photoz.errors import MalformedInput
from photoz.model.card import Card
from photoz.protocol import open_inference
from photoz.protocol.contract import MODEL_HEADER, EvaluateResponse
from photoz_client._errors import (
    BadInput,
    NotAuthorised,
    PhotozClientError,
    RequestRefused,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    TooLargeForService,
    TooSlowForService,
    UnexpectedResponse,
)
from photoz_client._keys import ENVIRONMENT_VARIABLE
from photoz_client._prediction import Prediction
from photoz_client._requests import ANY_TYPE, ESTIMATES, Call, shown_url


def check(response: httpx.Response, call: Call) -> httpx.Response:
    """Let a good answer through and raise what any other one means.

    Parameters
    ----------
    response : httpx.Response
        Read to its end.
    call : Call
        What it answers.

    Returns
    -------
    httpx.Response
        The same, of status 200 and the media type that was asked for.

    Raises
    ------
    PhotozClientError
        Of the class that fits the status.
    """
    if response.status_code != 200:
        raise _error(response, call)
    if call.accept != ANY_TYPE and (found := _media_type(response)) != call.accept:
        raise UnexpectedResponse(f"{_source(response)} answered with {found or 'no media type'}, not {call.accept}")
    return response


def prediction(response: httpx.Response, object_id: npt.NDArray[np.str_]) -> Prediction:
    """Read the columns out of an answer; columns that this version does not know are left out.

    Parameters
    ----------
    response : httpx.Response
        To `_requests.predict_call`.
    object_id : (n,) str
        Names of the cutouts that were sent.

    Returns
    -------
    Prediction
        n rows.

    Raises
    ------
    UnexpectedResponse
        If it does not follow the protocol, or lacks a column or a row.
    """
    try:
        header_length = open_inference.read_header_length(response.headers.get(open_inference.HEADER_LENGTH))
        outputs = open_inference.decode_response(response.content, header_length).outputs
    except MalformedInput as error:
        raise UnexpectedResponse(f"{_source(response)} gave an answer that cannot be read: {error}") from error
    if missing := [name for name in ESTIMATES if name not in outputs]:
        raise UnexpectedResponse(f"{_source(response)} answered without {', '.join(missing)}")
    # Copies, since the caller may write into them: the tensors are views of the answer.
    columns = {name: outputs[name].array.copy() for name in (*ESTIMATES, "pdf") if name in outputs}
    n = len(object_id)
    if lengths := {values.shape[:1] for values in columns.values()} - {(n,)}:
        raise UnexpectedResponse(f"{_source(response)} answered {n} cutouts with columns of {lengths.pop()} rows")
    return Prediction(object_id=object_id, **columns, model=response.headers.get(MODEL_HEADER, ""))


def model_name(response: httpx.Response) -> str:
    """Read the name of the only model out of the list of all.

    Raises
    ------
    UnexpectedResponse
        If there is another number of them.
    """
    try:
        (model,) = json.loads(response.content)
        return str(model["name"])
    except (ValueError, TypeError, KeyError) as error:
        raise UnexpectedResponse(f"{_source(response)} answered without the name of one model") from error


def unread(response: httpx.Response) -> httpx.Response:
    """Leave an answer as it is: a page or an image."""
    return response


def evaluation(response: httpx.Response) -> EvaluateResponse:
    """Read scores.

    Raises
    ------
    UnexpectedResponse
        If the answer does not follow the contract.
    """
    try:
        return EvaluateResponse.model_validate_json(response.content)
    except ValidationError as error:
        raise _off_contract(response, error) from error


def card(response: httpx.Response) -> Card:
    """Read a model's card.

    Raises
    ------
    UnexpectedResponse
        If the answer does not follow the contract.
    """
    try:
        return Card.model_validate_json(response.content)
    except ValidationError as error:
        raise _off_contract(response, error) from error


def _error(response: httpx.Response, call: Call) -> PhotozClientError:
    """Choose by the status; a proxy gives most of these too, without the sentence, and means the same."""
    status, sentence = response.status_code, _sentence(response)
    said = sentence or f"{status} {response.reason_phrase}"
    where = _source(response)
    match status:
        case 401:
            return NotAuthorised(status, f"{said} ({_key_sent(response)})")
        case 403:
            return NotAuthorised(status, said)
        case 408:
            return TooSlowForService(status, said)
        case 413:
            return TooLargeForService(status, said)
        case 429:
            return ServiceBusy(f"the service at {where} is busy: {said}", _retry_after(response))
        case 502 | 503:
            return ServiceUnavailable(f"the service at {where} cannot answer now: {said}", _retry_after(response))
        case 504:
            return TimedOut(f"the service at {where} gave up: {said}")
        case _ if status >= 500:
            return ServiceFailed(f"the service at {where} failed: {said}")
        case 431:
            return RequestRefused(status, said)
        case _ if sentence is None:
            return UnexpectedResponse(f"{where} answered {said}, not as a photoz service does: is the URL right?")
        case 400 | 422:
            return BadInput(status, _counted_from(call.first_row, sentence))
        case _:
            return RequestRefused(status, sentence)


def _key_sent(response: httpx.Response) -> str:
    """Say whether a key was missing or wrong, and never which."""
    if "Authorization" in response.request.headers:
        return f"the key that was sent does not open {_source(response)}"
    return f"no key was sent: give one by {ENVIRONMENT_VARIABLE}, api_key or --api-key-file"


def _sentence(response: httpx.Response) -> str | None:
    """Return what the service says is wrong; None if it is not in the shape in which it says so."""
    try:
        content = json.loads(response.content)
    except ValueError:
        return None
    sentence = content.get("error") if isinstance(content, dict) else None
    return sentence if isinstance(sentence, str) else None


def _counted_from(first_row: int, sentence: str) -> str:
    """Say where the count of cutouts in a sentence begins, if not at the caller's first."""
    return f"{sentence} (counted from cutout {first_row} on)" if first_row else sentence


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; a date is counted from the service's own clock where it tells the time."""
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


def _source(response: httpx.Response) -> str:
    return shown_url(response.url)


def _off_contract(response: httpx.Response, error: ValidationError) -> UnexpectedResponse:
    return UnexpectedResponse(f"{_source(response)} gave an answer that this version does not know: {error}")
