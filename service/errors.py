"""Errors over HTTP: one shape, `{"error": "what is wrong and what is expected"}`, and one table of statuses."""

import functools
import inspect
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from photoz import contract
from photoz.errors import (
    InvalidDataset,
    InvalidInput,
    MalformedInput,
    PhotozError,
    TooLarge,
    UnsupportedType,
)

logger = logging.getLogger("bentoml.photoz")


class NotAcceptable(UnsupportedType):
    """The caller accepts nothing of what can be answered."""


class TooSlow(PhotozError):
    """Work that was given up after the documented time."""


# The first that fits.
STATUS: tuple[tuple[type[PhotozError], HTTPStatus], ...] = (
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (UnsupportedType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (MalformedInput, HTTPStatus.BAD_REQUEST),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidDataset, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TooSlow, HTTPStatus.SERVICE_UNAVAILABLE),
)

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
    return JSONResponse({"error": str(error)}, status)


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
        message += f", got {_shortened(repr(first['input']))}"
    more = f" (and {len(others)} more like it)" if others else ""
    return f"{'.'.join(place) or 'the body'}: {message}{more}"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


class OneShape:
    """ASGI middleware that gives every error the one shape, those of BentoML and of its router included.

    Parameters
    ----------
    app : ASGI application
        What is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold errors back until they are whole, let all else through."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        held: list[Message] = []

        async def shaping_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body", False):
                    await _send_shaped(held, scope, receive, send)

        return await self.app(scope, receive, shaping_send)


async def _send_shaped(held: list[Message], scope: Scope, receive: Receive, send: Send) -> None:
    start, *chunks = held
    body = b"".join(chunk.get("body", b"") for chunk in chunks)
    response = JSONResponse({"error": _message(start["status"], body, scope)}, start["status"])
    dropped = (b"content-length", b"content-type")
    response.raw_headers += [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
    await response(scope, receive, send)


def _message(status: int, body: bytes, scope: Scope) -> str:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, list) and content:  # BentoML wraps its own errors in a list
        content = content[0]
    if isinstance(content, dict) and isinstance(content.get("error"), str):
        return str(content["error"])
    match status:
        case HTTPStatus.NOT_FOUND:
            return f"there is no {scope['path']} here; /docs.json lists what there is"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"{scope['path']} does not take {scope['method']}"
        case _:
            return HTTPStatus(status).phrase
