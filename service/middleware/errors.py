"""Errors over HTTP: one shape, `{"error": "what is wrong and what is expected"}`, and one table of statuses."""

import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def error_middleware(app: ASGIApp) -> ASGIApp:
    """Give every error response of an application the one shape, those of BentoML and of its router included.

    Error responses are held back until they are complete; all others pass through.
    """

    @functools.wraps(app)
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def reshape(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body", False):
                    await _send_reshaped(held, scope, receive, send)

        await app(scope, receive, reshape)

    return wrapped


async def _send_reshaped(held: list[Message], scope: Scope, receive: Receive, send: Send) -> None:
    start, *chunks = held
    body = b"".join(chunk.get("body", b"") for chunk in chunks)
    response = JSONResponse({"error": _message(start["status"], body, scope)}, start["status"])
    dropped = (b"content-length", b"content-type")
    response.raw_headers += [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
    await response(scope, receive, send)


def _message(status: int, body: bytes, scope: Scope) -> str:
    try:
        content: Any = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, list) and content:  # BentoML wraps its own errors in a list
        content = content[0]
    if isinstance(content, dict) and isinstance(content.get("error"), str):
        return str(content["error"])
    match status:
        case HTTPStatus.NOT_FOUND:
            return f"no such path: {scope['path']}; /docs.json lists the paths"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"{scope['path']} does not support {scope['method']}"
        case _:
            return HTTPStatus(status).phrase


Handler = Callable[..., Awaitable[Response]]


def handles_errors(handler: Handler) -> Handler:
    """Turn the `PhotozError` that an endpoint raises into its response.

    Other errors pass through: the middleware logs them and answers 500.
    """

    @functools.wraps(handler)
    async def wrapped(*arguments: Any) -> Response:
        try:
            return await handler(*arguments)
        except PhotozError as error:
            return error_response(error)

    return wrapped
