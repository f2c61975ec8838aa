"""One shape for every error, `{"error": "what is wrong and what is expected"}`, whoever found it."""

import json
from http import HTTPStatus

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
