"""Admission control: which requests reach the endpoints, and what is logged and counted of each.

In order: the head, probes, API keys, the limits, the body.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from photoz.errors import PhotozError, UnsupportedType
from service import page
from service.connections import Connections, Peer
from service.middleware.api_keys import ApiKeys
from service.middleware.body import (
    DISCARD_FIRST_SECONDS,
    DISCARD_SECONDS,
    PART_BYTES,
    ClientWaits,
    discard_body,
    has_body,
    is_small,
    receive_body,
    send_body,
)
from service.middleware.concurrency import ConcurrencyLimit
from service.middleware.errors import (
    HeaderTooLarge,
    MalformedRequest,
    RequestTimeout,
    ShuttingDown,
    error_middleware,
    error_response,
)
from service.middleware.memory_budget import MemoryBudget, Reservation
from service.operations import logs
from service.operations.metrics import Metrics
from service.operations.settings import Settings
from service.request import CLIENT_CLOSED_REQUEST, CURRENT_REQUEST, KEY, Request

logger = logging.getLogger("bentoml.photoz")

# Seconds of work on a request, after which it is cancelled if the client closes the connection.
WATCH_CLIENT_AFTER = 0.2

# Fraction of the requests in flight that one client may have, so that it cannot shut out all others.
CLIENT_SHARE = 0.75

METRICS_PATH = "/metrics"
READY_PATHS = frozenset({"/readyz", "/v2/health/ready"})

# Pickles, which BentoML refuses too, but not without a traceback in the log.
BENTOML_TYPES = "application/vnd.bentoml"

# Liveness and readiness: an orchestrator asks for them without a key.
PROBES = READY_PATHS | {"/livez", "/healthz", "/v2/health/live"}
WITHOUT_KEY = PROBES | page.WITHOUT_KEY


class AdmissionControl:
    """Limits, keys and the state of shutdown, shared by all requests of a worker."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self._metrics = settings, metrics
        self.waits = ClientWaits()
        self.memory = MemoryBudget(settings.max_memory_bytes, settings.max_body_bytes, self.waits.end_stalled)
        self.connections = Connections(self.memory)
        self.keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
        limit = settings.max_in_flight
        self.in_flight = ConcurrencyLimit("requests are in flight", limit, max(1, round(CLIENT_SHARE * limit)))
        self.draining = False

    def start_draining(self) -> None:
        """Answer "not ready" from now on, and close each connection after its next response."""
        if not self.draining:
            self.draining = True
            logger.info("shutting down: not ready, new connections for another %g s", self.settings.drain_seconds)

    def check_head(self, request: Request) -> None:
        """Raise what is wrong with a request before its body is received."""
        limit = self.settings.max_header_bytes
        if request.head_bytes > limit:
            raise HeaderTooLarge(f"expected a request line and headers of at most {limit:,} bytes, got more")
        if request.n_hosts != 1:
            raise MalformedRequest(f"expected one header Host, got {request.n_hosts}")
        if b"transfer-encoding" in request.headers and request.header("transfer-encoding").lower() != "chunked":
            raise MalformedRequest(
                f"expected no Transfer-Encoding but chunked, got {request.header('transfer-encoding')[:40]}"
            )
        if request.path in READY_PATHS and self.draining:
            raise ShuttingDown("the service is shutting down and takes no new work")
        if self.keys is not None and request.path not in WITHOUT_KEY:
            request.api_key = self.keys.check(request.headers.get(b"authorization", b""))
        if request.media_type.startswith(BENTOML_TYPES):
            raise UnsupportedType(f"{request.media_type[:60]} is not allowed: nothing is unpickled here")

    def refuse_overload(self, request: Request) -> None:
        """Raise `TooManyRequests` if as many requests are in flight as allowed, in all or of this client."""
        if len(self.in_flight) >= self.settings.max_in_flight:
            self.waits.end_stalled()
        self.in_flight.check(request.client)

    def record(self, request: Request) -> None:
        """Count, and log where that is wanted, a request that has ended."""
        self._metrics.record_request(request)
        if self.settings.access_log and request.path not in PROBES:
            logs.log_request(request)


class AdmissionMiddleware:
    """ASGI middleware around BentoML's application.

    `admission` returns the `AdmissionControl`; it is called at the first request, when the service has been created.
    """

    def __init__(self, app: ASGIApp, admission: Callable[[], AdmissionControl]) -> None:
        self._lifespan, self._app, self._find = app, error_middleware(app), admission
        self._admission: AdmissionControl | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request from its head to the end of its response."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # there are no websockets
                await self._lifespan(scope, receive, send)
            return
        if self._admission is None:
            self._admission = self._find()
        request = scope[KEY] = Request.from_scope(scope)
        CURRENT_REQUEST.set(request)
        peer = scope["client"]
        self._admission.connections.add(peer, request)
        send = _Sender(request, self._admission, send)
        try:
            await self._handle(request, scope, receive, send)
        except ClientDisconnect:
            request.status = CLIENT_CLOSED_REQUEST
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            if not request.status:
                message = "internal error, not a fault of the request; the log has the details by x-request-id"
                await JSONResponse({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR)(scope, receive, send)
        finally:
            request.status = request.status or CLIENT_CLOSED_REQUEST  # no response has started
            self._admission.connections.remove(peer, request)
            self._admission.record(request)

    async def _handle(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        admission = self._admission
        assert admission is not None
        unread = has_body(request)
        try:
            admission.check_head(request)
            request.reservation = Reservation(admission.memory, request.client)
            if request.path in PROBES or request.path == METRICS_PATH:  # answered under overload too
                await self._app(scope, receive, send)
                return
            admission.refuse_overload(request)
            wait = admission.waits.start(admission.settings.transfer_timeout)
            await receive_body(request, receive, admission.settings.max_body_bytes, wait)
            unread = False
            admission.refuse_overload(request)  # others arrived while the body did
            with admission.in_flight.count(request.client):
                await self._answer(admission.settings.request_timeout, scope, receive, send)
        except PhotozError as error:
            request.release()
            response = error_response(error)
            unread = unread and not _closes(response)
            if unread and is_small(request):
                unread = not await discard_body(request, receive, DISCARD_FIRST_SECONDS)
            await response(scope, receive, send)
            if unread:
                await discard_body(request, receive, DISCARD_SECONDS)
        finally:
            request.release()

    async def _answer(self, timeout: float, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint, until the timeout or until the client closes the connection.

        Raises `RequestTimeout` or `ClientDisconnect` if the response has not started by then.
        """
        assert self._admission is not None
        try:
            async with asyncio.timeout(timeout) as deadline:
                watch = _Watch(self._admission.connections, scope["client"], receive, deadline)

                async def send_in_time(message: Message) -> None:
                    watch.stop()
                    deadline.reschedule(None)  # a response that has started may take its time
                    await send(message)

                try:
                    await self._app(scope, _body_received(receive), send_in_time)
                finally:
                    watch.stop()
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if watch.is_gone:
                raise ClientDisconnect from error
            raise RequestTimeout(f"this took longer than {timeout:g} s: send fewer galaxies at a time") from error


class _Watch:
    """Ends the work on a request that takes long, by its deadline, when the client closes its connection."""

    def __init__(self, connections: Connections, peer: Peer, receive: Receive, deadline: asyncio.Timeout) -> None:
        self._connections, self._peer, self._receive, self._deadline = connections, peer, receive, deadline
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(WATCH_CLIENT_AFTER, self._start)
        self._task: asyncio.Task[None] | None = None
        self.is_gone = False

    def _start(self) -> None:
        self._task = self._loop.create_task(self._wait())
        self._connections.watch(self._peer, self._end)

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the empty body of a request without one
        self._end()

    def _end(self) -> None:
        if not self._deadline.expired():
            self.is_gone = True
            self._deadline.reschedule(self._loop.time())

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            self._connections.unwatch(self._peer, self._end)


class _Sender:
    """Sends the messages of a response, with the headers that every response has."""

    def __init__(self, request: Request, admission: AdmissionControl, send: Send) -> None:
        self._request, self._admission, self._send = request, admission, send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._request.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._request.id.encode())]
            if self._admission.draining:
                headers.append((b"connection", b"close"))  # the client's next request finds another instance
            message = {**message, "headers": headers}
        try:
            if len(message.get("body", b"")) <= PART_BYTES:
                await self._send(message)
            else:
                wait = self._admission.waits.start(self._admission.settings.transfer_timeout)
                await send_body(message, self._send, wait)
        except (RuntimeError, OSError) as error:  # the connection has ended, or the client does not read (TimeoutError)
            raise ClientDisconnect from error


def _closes(response: Response) -> bool:
    return response.headers.get("connection") == "close"


def _body_received(receive: Receive) -> Receive:
    """Return a channel whose body has been received: the endpoints find it in the request."""
    first = True

    async def received() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        return await receive()

    return received
