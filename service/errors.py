"""Errors over HTTP: one shape, `{"error": "what is wrong and what is expected"}`, and their statuses."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from photoz.errors import (
    InvalidDataset,
    InvalidInput,
    MalformedInput,
    PhotozError,
    TooLarge,
    UnsupportedType,
    shortened,
)


class RequestError(PhotozError):
    """An error with a status of its own."""

    def __init__(self, status: HTTPStatus, message: str, retry_after: int = 1) -> None:
        super().__init__(status, message, retry_after)  # all, so that a child can send it
        self.status, self.retry_after = status, retry_after  # seconds, where the status is 429

    def __str__(self) -> str:
        return str(self.args[1])


# Statuses of the errors of the core.
STATUS: Mapping[type[PhotozError], HTTPStatus] = {
    UnsupportedType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MalformedInput: HTTPStatus.BAD_REQUEST,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidDataset: HTTPStatus.UNPROCESSABLE_ENTITY,
}

MAX_MESSAGE = 1000  # characters; some repeat what the client has sent

# Headers that some statuses need (RFC 9110; RFC 6750 for the key).
HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.REQUEST_TIMEOUT: {"connection": "close"},
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: {"connection": "close"},
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
}


def _response(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": shortened(message, MAX_MESSAGE)}, status, headers)


def error_response(error: PhotozError) -> Response:
    """Return the response to an error: its message and status."""
    if isinstance(error, RequestError):
        status = error.status
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return _response(str(error), status, {"retry-after": str(error.retry_after)})
    else:
        status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return _response(str(error), status, HEADERS.get(status))


def http_error(request: Request, error: HTTPException) -> Response:
    """Return the response to an error of a router."""
    path = request.scope["path"]
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            message = f"no such path: {path}; /docs.json lists the paths"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            message = f"{path} does not support {request.method}"
        case _:
            message = error.detail
    return _response(message, error.status_code, error.headers)


def internal_error(*_: object) -> Response:
    """Return the response to an unexpected error, which the middleware logs."""
    message = "internal error, not a fault of the request; the log has the details by x-request-id"
    return _response(message, HTTPStatus.INTERNAL_SERVER_ERROR)


EXCEPTION_HANDLERS: Mapping[Any, Any] = {HTTPException: http_error, Exception: internal_error}
