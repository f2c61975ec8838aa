"""Errors over HTTP: one shape, `{"error": "what is wrong and what is expected"}`, and one table of statuses."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from photoz.errors import InvalidDataset, InvalidInput, MalformedInput, PhotozError, TooLarge, UnsupportedType


class NotAcceptable(UnsupportedType):
    """The client accepts none of the media types that can be answered."""


class MalformedRequest(PhotozError):
    """A request that is not valid HTTP."""


class HeaderTooLarge(PhotozError):
    """A request head over the documented limit."""


class EvaluationTimeout(PhotozError):
    """An evaluation that took longer than the documented time."""


class RequestTimeout(PhotozError):
    """A request that took longer than the documented time."""


class UploadTimeout(PhotozError):
    """A body that did not arrive in the documented time."""


class Unauthorized(PhotozError):
    """A request without an API key where one is needed, or with a wrong one."""


class NotOffered(PhotozError):
    """What the operator of this service has not switched on."""


class ArchiveFailed(PhotozError):
    """An archive that has no cutout, or does not answer."""


class TooManyRequests(PhotozError):
    """More requests at a time than the service takes: to be tried again."""


class ShuttingDown(PhotozError):
    """The service is about to end."""


# The first that fits.
STATUS: tuple[tuple[type[PhotozError], HTTPStatus], ...] = (
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (UnsupportedType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (MalformedInput, HTTPStatus.BAD_REQUEST),
    (MalformedRequest, HTTPStatus.BAD_REQUEST),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidDataset, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotOffered, HTTPStatus.NOT_FOUND),
    (ArchiveFailed, HTTPStatus.BAD_GATEWAY),
    (EvaluationTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (RequestTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (UploadTimeout, HTTPStatus.REQUEST_TIMEOUT),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (HeaderTooLarge, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (ShuttingDown, HTTPStatus.SERVICE_UNAVAILABLE),
)

# Headers that some statuses need (RFC 9110; RFC 6750 for the key).
HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.REQUEST_TIMEOUT: {"connection": "close"},
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: {"connection": "close"},
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.TOO_MANY_REQUESTS: {"retry-after": "1"},
}


def error_response(error: PhotozError) -> Response:
    """Return the response to an error: its message and status."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    return JSONResponse({"error": str(error)}, status, HEADERS.get(status))


def http_error(request: Request, error: Exception) -> Response:
    """Return the response to an error of a router."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            message = f"no such path: {path}; /docs.json lists the paths"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            message = f"{path} does not support {request.method}"
        case _:
            message = error.detail
    return JSONResponse({"error": message}, error.status_code, error.headers)


def internal_error(*_: object) -> Response:
    """Return the response to an unexpected error, which the middleware logs."""
    message = "internal error, not a fault of the request; the log has the details by x-request-id"
    return JSONResponse({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR)


ExceptionHandler = Callable[[Request, Exception], Response]

EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {HTTPException: http_error, Exception: internal_error}
