"""Take in the body of a request: not more than there is room for, and not for ever."""

import asyncio
from collections.abc import Iterator

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from photoz.errors import TooLarge
from photoz.protocol import open_inference as protocol
from service.edge import json_size
from service.edge.room import Reservation
from service.errors import UploadTooSlow

# Bytes a second that a body takes at least. Who is slower is not served, lest a few hold what many need.
MIN_RATE = 64_000

Headers = dict[bytes, bytes]


class Body:
    """A body as it arrives.

    Parameters
    ----------
    headers : dict of bytes to bytes
        Of the request.
    room : Reservation
        Where it goes.
    """

    def __init__(self, headers: Headers, room: Reservation) -> None:
        self._room = room
        self._json_left = self._json_length = _json_length(headers)
        self.chunks: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take in a piece; raises as `Reservation.take`."""
        if not self.size and chunk[:64].lstrip()[:1] not in (b"{", b"["):
            self._json_left = 0.0  # files do not begin so
        self._take_json(chunk)
        self._room.take(len(chunk), "a body of")
        self.chunks.append(chunk)
        self.size += len(chunk)

    def _take_json(self, chunk: bytes) -> None:
        if not self._json_left:
            return
        of_json = int(min(self._json_left, len(chunk)))
        self._json_left -= of_json
        json_size.refuse_too_much(min(self.size + of_json, self._json_length))
        self._room.take(json_size.cost(chunk[:of_json]), "JSON that decodes into")

    def replay(self, receive: Receive) -> Receive:
        """Return a channel that hands the body out as it came, and then what else comes."""
        messages = self._messages()

        async def replayed() -> Message:
            message = next(messages, None)
            return await receive() if message is None else message

        return replayed

    def _messages(self) -> Iterator[Message]:
        chunks, self.chunks = self.chunks, []
        chunks.reverse()  # each piece is let go as soon as it was handed out
        while len(chunks) > 1:
            yield {"type": "http.request", "body": chunks.pop(), "more_body": True}
        yield {"type": "http.request", "body": chunks.pop() if chunks else b"", "more_body": False}


def _json_length(headers: Headers) -> float:
    """Return how much of a body may be JSON: all of it, unless a header of the protocol says where it ends."""
    text = headers.get(protocol.HEADER_LENGTH.encode(), b"")
    return float(text) if text.isdigit() else float("inf")


def has_body(headers: Headers) -> bool:
    """Whether a request brings one."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def receive_body(scope: Scope, receive: Receive, room: Reservation, limit: int, timeout: float) -> Body:
    """Take in a body to its last byte.

    Parameters
    ----------
    scope, receive
        The request.
    room : Reservation
        Where it goes.
    limit : int
        Bytes, of what it says itself.
    timeout : float
        Seconds, beyond those that it takes at `MIN_RATE`.

    Returns
    -------
    Body
        All of it.

    Raises
    ------
    TooLarge, Full, UploadTooSlow
        By what is wrong.
    ClientDisconnect
        If nobody sends any more.
    """
    headers = dict(scope["headers"])
    body = Body(headers, room)
    if not has_body(headers):
        return body
    declared = headers.get(b"content-length", b"0")
    if len(declared) > 18 or int(declared) > limit:
        raise TooLarge(f"expected a body of at most {limit:,} bytes, got {declared.decode()}: send it in parts")
    begin = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout) as deadline:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                if chunk := message.get("body", b""):
                    body.add(chunk)
                if not message.get("more_body", False):
                    return body
                deadline.reschedule(begin + timeout + body.size / MIN_RATE)
    except TimeoutError as error:
        raise UploadTooSlow(
            f"the body did not arrive in time: {body.size:,} bytes in {timeout + body.size / MIN_RATE:.0f} s"
        ) from error
