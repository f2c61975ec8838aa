"""ASGI middleware with the limits on a request: API key, size, requests in flight, memory and time.

A proxy in front of the service handles clients that are slow or hold connections (deploy/nginx).
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from photoz.errors import MalformedInput, PhotozError, TooLarge, UnsupportedType
from service import logs, page, shared
from service.api_keys import ApiKeys
from service.compression import decompressed
from service.errors import RequestError, error_response, internal_error
from service.metrics import Metrics
from service.request import CURRENT_REQUEST, INFER, PREDICT, SCOPE_KEY, ConcurrencyLimit, MemoryBudget, Request
from service.settings import Settings

logger = logging.getLogger("bentoml.photoz")

# JSON is decoded in one go and blocks the interpreter meanwhile, 0.01 to 0.6 s a MiB.
MAX_JSON_BYTES = 16 * 1024 * 1024

# Fraction of the requests in flight that one client may have, so that it cannot shut out all others.
CLIENT_SHARE = 0.75

# Seconds of work on a request, after which it is cancelled if the client closes the connection.
WATCH_CLIENT_AFTER = 0.2

# The body of a refused request is read for this long, since most clients read a response only when they have sent all.
DRAIN_SECONDS = 10.0

# Bytes of a response sent at a time; the server accepts the next part once the client has read most of the others.
SEND_BYTES = 256 * 1024

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that closed the connection before the response

READY_PATHS = frozenset({"/readyz", "/v2/health/ready"})

# Liveness and readiness: an orchestrator asks for them without a key.
PROBES = READY_PATHS | {"/livez", "/healthz", "/v2/health/live"}
WITHOUT_KEY = PROBES | page.WITHOUT_KEY
UNLIMITED = PROBES | {"/metrics"}  # answered under overload too

# Pickles, which BentoML refuses too, but not without a traceback in the log.
BENTOML_TYPES = "application/vnd.bentoml"


# The port in a header Host, which may be an IPv6 address in brackets.
HOST = re.compile(r":\d*$")

# What granian says of a response that is not HTTP, such as a line end in a header.
NOT_HTTP = "Unsupported ASGI message"

# A browser takes an answer for what its content-type says.
NOSNIFF = (b"x-content-type-options", b"nosniff")


class Limits:
    """The limits of a worker, what they count, and whether it is shutting down."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.memory = MemoryBudget(settings.max_memory_bytes)
        self.hosts = settings.hosts
        self.keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
        limit = settings.max_in_flight
        self.in_flight = ConcurrencyLimit("requests are in flight", limit, max(1, round(CLIENT_SHARE * limit)))
        self.draining = False

    def start_draining(self) -> None:
        """Answer "not ready" from now on, and close each connection after its next response."""
        if not self.draining:
            self.draining = True
            logger.info("shutting down: not ready, new connections for another %g s", self.settings.drain_seconds)

    def check_head(self, request: Request, scope: Scope) -> None:
        """Raise what is wrong with a request before its body is received; identify its client."""
        limit = self.settings.max_header_bytes
        size = len(request.method) + len(scope["raw_path"]) + len(scope["query_string"]) + len("   HTTP/1.1\r\n\r\n")
        hosts = authorizations = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            hosts += name == b"host" and value != b""  # granian adds an empty one where there is none
            authorizations += name == b"authorization"
        if size > limit:
            message = f"expected a request line and headers of at most {limit:,} bytes, got more"
            raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
        if hosts != 1 and (hosts or scope["http_version"] == "1.1"):
            raise MalformedInput(f"expected one header Host, got {hosts}")
        if authorizations > 1:
            raise MalformedInput(f"expected one header Authorization, got {authorizations}")
        if self.hosts and hosts and (host := HOST.sub("", request.headers.get("host", "")).lower()) not in self.hosts:
            message = f"expected the host {', '.join(self.hosts)}, got {host[:60]}: see PHOTOZ_ALLOWED_HOSTS"
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, message)
        if request.method == "POST" and request.headers.get("sec-fetch-site") == "cross-site":
            raise RequestError(HTTPStatus.FORBIDDEN, "a page of another site may not send requests here")
        if request.headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise MalformedInput(
                f"expected no Transfer-Encoding but chunked, got {request.headers['transfer-encoding'][:40]}"
            )
        if self.draining and request.path in READY_PATHS:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the service is shutting down and takes no new work")
        if self.keys is not None and request.path not in WITHOUT_KEY and not request.path.startswith(shared.PREFIX):
            request.client = request.api_key = self.keys.check(request.headers.get("authorization", ""))
        if request.media_type.startswith(BENTOML_TYPES):
            raise UnsupportedType(f"{request.media_type[:60]} is not allowed: nothing is unpickled here")


class LimitsMiddleware:
    """Applies the limits to each request, answers those that are refused, and records all.

    `app` gets requests whose body has been received, in the scope under `SCOPE_KEY`. `limits` is called once.
    """

    def __init__(self, app: ASGIApp, limits: Callable[[], Limits]) -> None:
        self._app, self._find_limits = app, limits
        self._respond: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request; pass on the events of the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":  # there are no websockets
            self._respond = self._respond or self._start()
            await self._respond(scope, receive, send)

    def _start(self) -> ASGIApp:
        self._limits = self._find_limits()
        proxies = self._limits.settings.trusted_proxies
        if not proxies:
            return self._handle
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware  # not needed by every service

        # Starlette and uvicorn describe the same interface by other types.
        return cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, self._handle), trusted_hosts=proxies))

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        request = scope[SCOPE_KEY] = Request(scope, limits.memory)
        CURRENT_REQUEST.set(request)

        async def send_part(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.id.encode()), NOSNIFF]
                if limits.draining:  # the client's next request finds another instance
                    message["headers"].append((b"connection", b"close"))
            body = message.get("body", b"")
            last = max(len(body) - 1, 0) // SEND_BYTES * SEND_BYTES
            try:
                for start in range(0, last, SEND_BYTES):
                    await send({**message, "body": body[start : start + SEND_BYTES], "more_body": True})
                await send({**message, "body": body[last:]} if last else message)
            except (RuntimeError, OSError) as error:
                if str(error) == NOT_HTTP:
                    request.status = 0  # of a response that has not started
                    raise
                raise ClientDisconnect from error  # the connection has ended

        try:
            await self._admit(request, scope, receive, send_part)
        except ClientDisconnect:
            request.status = CLIENT_CLOSED_REQUEST
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            if not request.status:
                await internal_error()(scope, receive, send_part)
        finally:
            request.memory.release(request)
            request.status = request.status or CLIENT_CLOSED_REQUEST  # no response has started
            limits.metrics.record_request(request)
            if limits.settings.access_log == "on" and request.path not in PROBES:
                logs.log_request(request)

    async def _admit(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, receive its body, and let the application respond; or respond with what is wrong."""
        limits = self._limits
        try:
            limits.check_head(request, scope)
            if request.path in UNLIMITED:
                await self._app(scope, receive, send)
                return
            limits.in_flight.check(request.client)
            await receive_body(request, receive, limits.settings)
            with limits.in_flight.enter(request.client):
                await self._run(scope, receive, send)
        except PhotozError as error:
            if request.status:  # the response has started but cannot be finished in time
                raise ClientDisconnect from error
            request.memory.release(request)
            response = error_response(error)
            if response.status_code != HTTPStatus.REQUEST_TIMEOUT:
                await drain_body(request, receive, limits.settings.max_body_bytes)
            await response(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, until the timeout (`RequestError`) or until the client leaves (`ClientDisconnect`)."""
        timeout, loop = self._limits.settings.request_timeout, asyncio.get_running_loop()
        watches: list[asyncio.Task[None]] = []
        disconnected = False

        async def watch() -> None:
            nonlocal disconnected
            while (await receive())["type"] != "http.disconnect":
                pass
            disconnected = True
            deadline.reschedule(loop.time())

        timer = loop.call_later(WATCH_CLIENT_AFTER, lambda: watches.append(loop.create_task(watch())))
        try:
            async with asyncio.timeout(timeout) as deadline:
                await self._app(scope, receive, send)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if disconnected:
                raise ClientDisconnect from error
            message = f"this took longer than {timeout:g} s: send fewer galaxies at a time"
            raise RequestError(HTTPStatus.GATEWAY_TIMEOUT, message) from error
        finally:
            timer.cancel()
            for task in watches:
                task.cancel()


async def receive_body(request: Request, receive: Receive, settings: Settings) -> None:
    """Receive a body, and reserve memory; raises `TooLarge`, `MalformedInput`, `UnsupportedType`, `RequestError`."""
    length = request.content_length
    if request.has_arrived:
        return
    limit = min(MAX_JSON_BYTES, settings.max_body_bytes) if request.route == PREDICT else settings.max_body_bytes
    if length is not None and length > limit:
        raise TooLarge(f"expected a body of at most {limit:,} bytes, got {length:,}: send it in parts")
    if request.content_encoding and request.route == INFER:
        receive, length = decompressed(request, receive), None
    try:
        async with asyncio.timeout(settings.transfer_timeout):
            while not request.has_arrived:
                if (n_bytes := max(length or 0, request.received_bytes)) > request.held_bytes:
                    request.memory.reserve(request, n_bytes - request.held_bytes)
                message = await receive()
                request.has_arrived = not message.get("more_body", False)
                if message["type"] == "http.disconnect":
                    raise MalformedInput("the body ended too early")
                if chunk := message.get("body", b""):
                    request.add_chunk(chunk)
                if request.received_bytes > limit:
                    raise TooLarge(f"expected a body of at most {limit:,} bytes, got more: send it in parts")
                if request.received_bytes == length:  # saves a switch to granian's thread for the end alone
                    request.has_arrived = True
    except TimeoutError as error:
        arrived = f"{request.received_bytes:,} bytes in {settings.transfer_timeout:g} s"
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive in time: {arrived}") from error


async def drain_body(request: Request, receive: Receive, max_bytes: int) -> None:
    """Read and drop the rest of the body of a refused request, unless the client waits for permission to send it."""
    if "expect" in request.headers or (request.content_length or 0) > max_bytes:
        return
    n_bytes = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while n_bytes < max_bytes and not request.has_arrived:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                request.has_arrived = not message.get("more_body", False)
