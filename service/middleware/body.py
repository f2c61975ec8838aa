"""Bodies: those of requests are received, those of answers sent, at a pace that clients have to keep."""

import asyncio
from typing import Self

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send

from photoz.errors import TooLarge
from photoz.protocol.open_inference import HEADER_LENGTH
from service.middleware.errors import MalformedRequest, UploadTimeout
from service.middleware.json_memory import estimate_json_memory, refuse_large_json
from service.request import EVALUATE, INFER, PREDICT, Request

# Bytes per second that a client has to send or to read at least.
MIN_RATE = 64_000

# Seconds behind that rate after which a client has to yield to others, if they need its memory or its place.
YIELD_AFTER = 1.0

# What is still read of a body after its request was refused, so that the client reads the answer: bytes and seconds.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 10.0
SMALL_BODY_BYTES, DISCARD_FIRST_SECONDS = 8 * 1024 * 1024, 5.0  # five megabytes can take a second on a busy machine

# Bytes of an answer that are sent at a time.
PART_BYTES = 256 * 1024


class ClientWaits:
    """The requests of a worker that wait for their clients."""

    def __init__(self) -> None:
        self._waits: set[ClientWait] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending = False

    def start(self, seconds: float) -> "ClientWait":
        """Return a wait, to be entered; the client may fall behind `MIN_RATE` by so many seconds."""
        self._loop = asyncio.get_running_loop()
        return ClientWait(self._waits, self._loop, seconds)

    def end_stalled(self) -> None:
        """End those whose clients are behind, since others need what they hold; may be called in any thread."""
        if self._loop is not None and self._waits and not self._is_ending:
            self._is_ending = True
            self._loop.call_soon_threadsafe(self._end_stalled)

    def _end_stalled(self) -> None:
        self._is_ending = False
        for wait in self._waits:
            if wait.seconds_behind > YIELD_AFTER:
                wait.end()


class ClientWait:
    """One of them; leaving it raises `TimeoutError` if the client fell behind.

    What it sent or read faster before does not count: a client that stops has no more than `seconds`.
    """

    def __init__(self, waits: "set[ClientWait]", loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._waits, self._now, self._seconds = waits, loop.time, seconds
        self._begin = loop.time()
        self._end = self._begin + seconds
        self._deadline = asyncio.timeout_at(self._end)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        self._waits.add(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._waits.discard(self)
        await self._deadline.__aexit__(*error)  # type: ignore[arg-type]

    @property
    def seconds(self) -> float:
        """Since its start."""
        return self._now() - self._begin

    @property
    def seconds_behind(self) -> float:
        """By which the client is behind `MIN_RATE`."""
        return self._seconds - (self._end - self._now())

    def advance(self, n_bytes: int) -> None:
        """Note that the client has sent or read so many bytes."""
        self._end = min(self._end + n_bytes / MIN_RATE, self._now() + self._seconds)
        if not self._deadline.expired():
            self._deadline.reschedule(self._end)

    def end(self) -> None:
        """End it now, unless it is about to end."""
        if not self._deadline.expired():
            self._deadline.reschedule(self._now())


def has_body(request: Request) -> bool:
    """Whether the head announces a body."""
    return _length(request) != 0


def is_small(request: Request) -> bool:
    """Whether the rest of a body that is refused is read before the answer, if it is there.

    Under load granian closes a connection whose request was answered before its body was read. A large body is read
    after the answer, so that a client that waits for it does not send all of it.
    """
    length = _length(request)
    return length is not None and length <= SMALL_BODY_BYTES and b"expect" not in request.headers


async def receive_body(request: Request, receive: Receive, max_bytes: int, wait: ClientWait) -> None:
    """Receive the body of a request into its `chunks`; its reservation grows with the body.

    The Content-Length may be `max_bytes`. Raises `TooLarge`, `TooManyRequests`, `UploadTimeout` or `MalformedRequest`.
    """
    length = _length(request)
    if length == 0:
        return
    if length is not None and length > max_bytes:
        raise TooLarge(f"expected a body of at most {max_bytes:,} bytes, got {length:,}: send it in parts")
    json_memory = _JsonMemory(request)
    if request.route != EVALUATE and length is not None:  # what is sent there may be a .npz file
        refuse_large_json(min(length, json_memory.length))
    try:
        async with wait:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise MalformedRequest("the body ended too early")
                if chunk := message.get("body", b""):
                    json_memory.add(chunk)
                    request.reservation.reserve(len(chunk), "a body of")
                    request.add_chunk(chunk)
                if request.received_bytes == length or not message.get("more_body", False):
                    return  # no further switch to granian's thread, only to hear that a complete body has ended
                wait.advance(len(chunk))
    except TimeoutError as error:
        found = f"{request.received_bytes:,} bytes in {wait.seconds:.0f} s"
        raise UploadTimeout(f"the body did not arrive in time: {found}") from error


async def send_body(message: Message, send: Send, wait: ClientWait) -> None:
    """Send a message with a large body in parts: granian takes the next when the client has read most of the others.

    Raises `TimeoutError` if the client does not read.
    """
    body, more = message["body"], message.get("more_body", False)
    async with wait:
        for start in range(0, len(body), PART_BYTES):
            part = body[start : start + PART_BYTES]
            await send({**message, "body": part, "more_body": more or start + PART_BYTES < len(body)})
            wait.advance(len(part))


async def discard_body(request: Request, receive: Receive, seconds: float) -> bool:
    """Read and drop the rest of a body, so that the connection can be used again; return whether that is done."""
    length = _length(request)
    end = DISCARD_BYTES if length is None else min(length, DISCARD_BYTES)
    try:
        async with asyncio.timeout(seconds):
            while request.received_bytes < end:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return True
                request.received_bytes += len(message.get("body", b""))
    except (TimeoutError, ClientDisconnect):
        return False
    return request.received_bytes == length


def _length(request: Request) -> int | None:
    """Return how long the body is, None if that is not known yet."""
    if b"transfer-encoding" in request.headers:
        return None
    return int(request.headers.get(b"content-length", b"0"))


class _JsonMemory:
    """Reserves the memory that the JSON part of a body will take."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.length = self._left = _json_length(request)

    def add(self, chunk: bytes) -> None:
        if self._request.route == EVALUATE and not self._request.received_bytes and chunk.startswith(b"P"):
            self._left = 0.0  # a .npz file: no JSON begins with this letter
        if not self._left:
            return
        n = int(min(self._left, len(chunk)))
        self._left -= n
        refuse_large_json(min(self._request.received_bytes + n, self.length))
        self._request.reservation.reserve(estimate_json_memory(chunk[:n]), "JSON that decodes into")


def _json_length(request: Request) -> float:
    """Return how many of the first bytes of a body are decoded as JSON, whatever they look like."""
    if request.route in (PREDICT, EVALUATE):
        return float("inf")
    if request.route != INFER or request.content_encoding:  # what a body unpacks into counts when it is unpacked
        return 0.0
    text = request.headers.get(HEADER_LENGTH.encode(), b"")
    return float(text) if text.isdigit() else float("inf")
