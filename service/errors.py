"""Errors over HTTP: one shape, `{"error": "what is wrong and what is expected"}`, and one table of statuses."""

import functools
import inspect
import logging
import reprlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from photoz.errors import (
    InvalidDataset,
    InvalidInput,
    MalformedInput,
    PhotozError,
    TooLarge,
    UnsupportedType,
)
from photoz.protocol import contract

logger = logging.getLogger("bentoml.photoz")


class NotAcceptable(UnsupportedType):
    """The caller accepts nothing of what can be answered."""


class TooSlow(PhotozError):
    """Work that was given up after the documented time."""


class UploadTooSlow(PhotozError):
    """A body that did not arrive in the documented time."""


class Unauthorized(PhotozError):
    """A request without a key where one is needed, or with a wrong one."""


class Full(PhotozError):
    """More at a time than the service takes: to be tried again."""


# The first that fits.
STATUS: tuple[tuple[type[PhotozError], HTTPStatus], ...] = (
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (UnsupportedType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (MalformedInput, HTTPStatus.BAD_REQUEST),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidDataset, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TooSlow, HTTPStatus.GATEWAY_TIMEOUT),
    (UploadTooSlow, HTTPStatus.REQUEST_TIMEOUT),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Full, HTTPStatus.TOO_MANY_REQUESTS),
)

# What some statuses have to say beside the message (RFC 9110; RFC 6750 for the key).
HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.REQUEST_TIMEOUT: {"connection": "close"},
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.TOO_MANY_REQUESTS: {"retry-after": "1"},
}

Endpoint = Callable[..., Any]


def answered(endpoint: Endpoint) -> Endpoint:
    """Turn what an endpoint raises on purpose into its answer, and name the model in every answer.

    Parameters
    ----------
    endpoint : callable
        A method, plain or `async`, of an object with `model_label`.

    Returns
    -------
    callable
        Of the same kind. Errors that nobody raised on purpose pass through: BentoML logs them and answers 500.
    """

    @functools.wraps(endpoint)
    def plain(self: Any, call: Any) -> Response:
        try:
            return _labelled(endpoint(self, call), self.model_label)
        except PhotozError as error:
            return _labelled(error_response(error), self.model_label)

    @functools.wraps(endpoint)
    async def waiting(self: Any, call: Any) -> Response:
        try:
            return _labelled(await endpoint(self, call), self.model_label)
        except PhotozError as error:
            return _labelled(error_response(error), self.model_label)

    return waiting if inspect.iscoroutinefunction(endpoint) else plain


def _labelled(response: Response, label: str) -> Response:
    response.headers[contract.MODEL_HEADER] = label
    return response


def error_response(error: PhotozError) -> Response:
    """Answer an error with its message and status."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    return JSONResponse({"error": str(error)}, status, HEADERS.get(status))


def readable(error: ValidationError) -> str:
    """Return what pydantic found as one sentence.

    Parameters
    ----------
    error : ValidationError
        With one or more findings; the first is told in full.

    Returns
    -------
    str
        Such as "images.0.3.2.1: input should be a valid number, got 'a'".
    """
    first, *others = error.errors(include_url=False, include_context=False)
    # Beyond the name of the field only indices: the rest are pydantic's names for the branches of a union.
    place = [str(part) for i, part in enumerate(first["loc"]) if i == 0 or isinstance(part, int)]
    message = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] not in ("missing", "extra_forbidden"):
        message += f", got {_shortened(reprlib.repr(first['input']))}"
    more = f" (and {len(others)} more like it)" if others else ""
    return f"{'.'.join(place) or 'the body'}: {message}{more}"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
