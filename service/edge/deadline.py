"""The longest time that a request may take, without leaving anything behind.

BentoML's own middleware never cancels its timer: each request leaves one for the whole of `traffic.timeout`, and at
2,000 requests a second 300 s of them are half a gigabyte that the garbage collector looks through again and again
(bentoml 1.4.39, bentoml/_internal/server/http/traffic.py). `switch_bentomls_off` takes it away.
"""

import asyncio
from http import HTTPStatus

from bentoml._internal.server.http import traffic
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Deadline:
    """Answers 504 if an application has not begun to answer in time; ASGI middleware.

    Parameters
    ----------
    app : ASGI application
        That answers.
    timeout : float
        Seconds.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self._app, self._timeout = app, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            deadline.reschedule(None)  # an answer that has begun may take its time
            await send(message)

        try:
            async with asyncio.timeout(self._timeout) as deadline:
                await self._app(scope, receive, send_in_time)
        except TimeoutError:
            if not deadline.expired():
                raise
            message = f"this took longer than {self._timeout:g} s; ask for fewer galaxies at a time"
            await JSONResponse({"error": message}, HTTPStatus.GATEWAY_TIMEOUT)(scope, receive, send)


def switch_bentomls_off() -> None:
    """Let BentoML put nothing where its own would stand; it looks it up by this name later."""
    traffic.TimeoutMiddleware = lambda app, timeout: app
