"""The one layer around everything that answers: names, keys, limits, measures, one shape of errors."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from photoz.errors import PhotozError
from service import logs
from service.edge import room
from service.edge.body import receive_body
from service.edge.connection import raw_error
from service.edge.deadline import Deadline
from service.edge.drain import Drain
from service.edge.keys import OPEN_PATHS, Keys
from service.edge.one_shape import OneShape
from service.edge.room import Reservation, Room
from service.edge.visit import CLIENT_GONE, CURRENT, Visit
from service.errors import Full, error_response
from service.metrics import Metrics
from service.settings import Settings

logger = logging.getLogger("bentoml.photoz")

METRICS_PATH = "/metrics"
READY_PATHS = frozenset({"/readyz", "/v2/health/ready"})


@dataclass
class Guard:
    """What the layer goes by.

    Parameters
    ----------
    settings : Settings
        The limits among them.
    metrics : Metrics
        That count.
    """

    settings: Settings
    metrics: Metrics
    drain: Drain = field(default_factory=Drain)
    keys: Keys | None = None
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.limits = self.settings.limits
        self.room = Room(self.limits.memory, self.limits.body)
        if self.settings.keys_file:
            self.keys = Keys(self.settings.keys_file)

    @property
    def is_busy(self) -> bool:
        """Whether as many requests are at work as may be."""
        return self.in_flight >= self.limits.in_flight

    def is_full(self) -> bool:
        """Whether that is so, or there may be no room for a large one."""
        return self.is_busy or self.room.used > self.limits.memory - self.limits.body

    def full(self) -> Full:
        """Return the error that says so."""
        return Full(f"the service works on {self.in_flight} requests already; try again in a second")

    def turn_away(self, url: bytes, headers: dict[bytes, bytes]) -> bytes:
        """Answer a request that there is no place for, before anything is made for it.

        Parameters
        ----------
        url : bytes
            What it asks for.
        headers : dict of bytes to bytes
            Its own, names in lower case.

        Returns
        -------
        bytes
            The answer, with 429.
        """
        path = url.partition(b"?")[0].decode("latin-1")
        visit = Visit.of({"method": "POST", "path": path}, headers)
        visit.status = int(HTTPStatus.TOO_MANY_REQUESTS)
        self.note(visit)
        return raw_error(visit.status, str(self.full()), (b"retry-after", b"1"), (b"x-request-id", visit.id.encode()))

    def note(self, visit: Visit) -> None:
        """Count, and log where that is wanted, a request that has ended."""
        self.metrics.note_visit(visit)
        if self.settings.access_log and visit.path not in OPEN_PATHS:
            logs.note_visit(visit)


class Edge:
    """ASGI middleware.

    Parameters
    ----------
    app : ASGI application
        What is inside.
    guard : callable
        Gives the `Guard`; asked once, when the first request is there.
    """

    def __init__(self, app: ASGIApp, guard: Callable[[], Guard]) -> None:
        self._app, self._find = app, guard
        self._guard: Guard | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or say why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # `Connection` makes no web sockets
            return
        if self._guard is None:
            self._guard = self._find()
            self._inside = Deadline(OneShape(self._app), self._guard.limits.timeout)
        await _Passage(self._guard, self._inside, scope, receive, send).go()


class _Passage:
    """One request on its way in and out."""

    def __init__(self, guard: Guard, inside: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._inside, self._scope = guard, inside, scope
        self._receive, self._send = receive, send
        self._headers = dict(scope["headers"])
        self._visit = Visit.of(scope, self._headers)

    async def go(self) -> None:
        CURRENT.set(self._visit)
        try:
            await self._enter_or_say_why_not()
        except ClientDisconnect:
            self._visit.status = CLIENT_GONE
        except Exception:
            logger.exception("%s %s failed", self._visit.method, self._visit.path)
            if not self._visit.status:
                message = "something went wrong here, not with what you sent; the log tells what, by x-request-id"
                await self._answer(JSONResponse({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR))
        finally:
            self._visit.status = self._visit.status or CLIENT_GONE  # no answer has begun: the caller has gone
            self._guard.note(self._visit)

    async def _enter_or_say_why_not(self) -> None:
        try:
            await self._enter()
        except PhotozError as error:
            await self._answer(error_response(error))

    async def _enter(self) -> None:
        guard, path = self._guard, self._visit.path
        if path in OPEN_PATHS:
            return await self._probe(path)
        if guard.keys is not None:
            self._visit.key = guard.keys.check(self._headers.get(b"authorization", b""))
        if path == METRICS_PATH:  # never so busy that nobody can see it
            return await self._inside(self._scope, self._receive, self._sent)
        if guard.is_full():  # before anything of the body is taken in
            raise guard.full()
        reservation = guard.room.reserve()
        try:
            await self._work(reservation)
        finally:
            reservation.release()

    async def _probe(self, path: str) -> None:
        if path in READY_PATHS and self._guard.drain.begun:
            message = "the service is about to end: it takes no more than it has"
            return await self._answer(JSONResponse({"error": message}, HTTPStatus.SERVICE_UNAVAILABLE))
        await self._inside(self._scope, self._receive, self._sent)

    async def _work(self, reservation: Reservation) -> None:
        guard, limits = self._guard, self._guard.limits
        body = await receive_body(self._scope, self._receive, reservation, limits.body, limits.upload_timeout)
        self._visit.received = body.size
        if guard.is_busy:  # those that arrived meanwhile were first
            raise guard.full()
        self._scope[room.KEY] = reservation
        guard.in_flight += 1
        try:
            await self._inside(self._scope, body.replay(self._receive), self._sent)
        finally:
            guard.in_flight -= 1

    async def _answer(self, response: JSONResponse) -> None:
        await response(self._scope, self._receive, self._sent)

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._visit.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._visit.id.encode())]
            if self._guard.drain.begun:
                headers.append((b"connection", b"close"))  # the next request finds another instance
            message = {**message, "headers": headers}
        try:
            await self._send(message)
        except (RuntimeError, OSError) as error:  # uvloop's word for a connection that has ended
            raise ClientDisconnect from error
