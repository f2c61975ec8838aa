"""Receive request bodies, within the memory budget and in time."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from photoz.errors import TooLarge
from photoz.protocol.open_inference import HEADER_LENGTH
from service.middleware.client_waits import ClientWait
from service.middleware.errors import MalformedRequest, UploadTimeout
from service.middleware.json_memory import estimate_json_memory, refuse_large_json
from service.request import EVALUATE, INFER, PREDICT, Request

# What is still read of a body after its request was refused, so that the client reads the answer: bytes and seconds.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 10.0
SMALL_BODY_BYTES, DISCARD_FIRST_SECONDS = 8 * 1024 * 1024, 1.0


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
        self._length = self._left = _json_length(request)

    def add(self, chunk: bytes) -> None:
        if self._request.route == EVALUATE and not self._request.received_bytes and chunk.startswith(b"P"):
            self._left = 0.0  # a .npz file: no JSON begins with this letter
        if not self._left:
            return
        n = int(min(self._left, len(chunk)))
        self._left -= n
        refuse_large_json(min(self._request.received_bytes + n, self._length))
        self._request.reservation.reserve(estimate_json_memory(chunk[:n]), "JSON that decodes into")


def _json_length(request: Request) -> float:
    """Return how many of the first bytes of a body are decoded as JSON, whatever they look like."""
    if request.route in (PREDICT, EVALUATE):
        return float("inf")
    if request.route != INFER or request.content_encoding:  # what a body unpacks into counts when it is unpacked
        return 0.0
    text = request.headers.get(HEADER_LENGTH.encode(), b"")
    return float(text) if text.isdigit() else float("inf")
