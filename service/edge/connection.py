"""One connection: what comes before there is a request that a layer could judge.

uvicorn waits for ever for the head of a request, takes heads of any size, and reads on for ever what nobody wants any
more (uvicorn 0.54, uvicorn/protocols/http/httptools_impl.py). This one does not.
"""

import asyncio
import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.settings import Limits

# Files that are kept for all that is not a connection.
SPARE_FILES = 128

# Seconds that a connection may be idle between requests. More than clients keep one: then it is they who close it, and
# no request meets a connection that is just being closed. (uvicorn's five seconds are the length of a pause of many.)
KEEP_ALIVE = 75

MOST = 16384  # connections, however many files there may be

# Seconds, and bytes, that the rest of a body is still read for, so that its sender sees the answer before the end.
LINGER = 10.0
LINGER_BYTES = 64 * 1024 * 1024

Note = Callable[[str], None]
Headers = dict[bytes, bytes]
TurnAway = Callable[[bytes, Headers], bytes]


class Connection(HttpToolsProtocol):
    """uvicorn's, with limits; `configure` sets them, once for a process."""

    limits = Limits()
    most = 1024
    note_refused: Note = staticmethod(lambda reason: None)
    is_full: Callable[[], bool] = staticmethod(lambda: False)
    turn_away: TurnAway = staticmethod(lambda url, headers: b"")

    @classmethod
    def configure(cls, limits: Limits, note_refused: Note, is_full: Callable[[], bool], turn_away: TurnAway) -> None:
        """Set the limits, and take as many connections as this process may have files.

        Parameters
        ----------
        limits : Limits
            Of the head of a request.
        note_refused : callable
            Told why, for each connection that is ended before it brought a request.
        is_full : callable
            Whether there is no place for one more request.
        turn_away : callable
            Gives the answer to a request that brings a body, by its URL and headers, then.
        """
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        cls.limits, cls.note_refused = limits, staticmethod(note_refused)
        cls.is_full, cls.turn_away = staticmethod(is_full), staticmethod(turn_away)
        cls.most = MOST if hard == resource.RLIM_INFINITY else min(max(hard - SPARE_FILES, 1), MOST)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.timeout_keep_alive = KEEP_ALIVE
        self._in_head, self._in_message = True, False
        self._head_size = self._lingering = 0
        self._clock: asyncio.TimerHandle | None = None
        self._refusal: tuple[HTTPStatus, str, str] | None = None
        self._left = 0  # bytes yet to come of the body of who was turned away

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.note_refused("too many")
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more: a timer that is left would keep all of this for as long as it runs."""
        self._stop_clock()
        self._unset_keepalive_if_required()  # uvicorn forgets that of a connection that was reset
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._left:
            data = self._skipped(data)
        while data and self.is_full() and self._is_between() and (rest := self._turned_away(data)) != data:
            data = rest
        if not data:
            return
        if self._in_head:
            self._head_size += len(data)
        elif self.cycle is not None and self.cycle.response_complete and not self._is_wanted(len(data)):
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._in_message:
            if self._head_size > self.limits.headers:
                self._refuse_large_head()
                self.send_400_response("")
            elif self._clock is None:
                self._await_head()

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head = self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Judge the head, and let the request go its way."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.headers:
            self._refuse_large_head()
            raise ValueError("too large")  # httptools stops, and data_received answers
        self._in_head, self._head_size = False, 0
        self._stop_clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body."""
        if self.cycle.body or self.cycle.response_complete:
            super().on_body(body)
        else:
            # uvicorn would copy it into a buffer here, and out of that when it is asked for.
            self.cycle.body = body
            self.cycle.message_event.set()
            if len(body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """Note that the whole of a request has come; the next begins with a head."""
        self._in_head, self._in_message = True, False
        self._lingering = 0
        self._stop_clock()
        super().on_message_complete()

    def _turned_away(self, data: bytes) -> bytes:
        """Turn the request away that begins here, as there is no place for it; return what comes after it.

        Nothing is made for it and its body is not parsed: under load from more callers than can be served, this is
        what leaves the processor to those that are.
        """
        found = simple_post(data)
        if found is None:
            return data
        self._unset_keepalive_if_required()
        self._stop_clock()
        self.transport.write(self.turn_away(found.url, found.headers))
        self._left = found.length
        self._clock = self.loop.call_later(LINGER, self.transport.abort)
        return self._skipped(data[found.size :])

    def _skipped(self, data: bytes) -> bytes:
        """Leave out what belongs to the body of who was turned away; return what comes after."""
        if len(data) < self._left:
            self._left -= len(data)
            self._is_wanted(len(data))
            return b""
        rest, self._left, self._lingering = data[self._left :], 0, 0
        self._stop_clock()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        return rest

    def on_response_complete(self) -> None:
        """Give a caller who has its answer and still sends the time to end."""
        super().on_response_complete()
        if self._in_message and not self._in_head and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._clock = self.loop.call_later(LINGER, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, in the shape that all errors have, and end."""
        status, reason, message = self._refusal or (
            HTTPStatus.BAD_REQUEST,
            "malformed",
            "expected a request of HTTP/1.1, got something else",
        )
        self.note_refused(reason)
        self._stop_clock()
        if self._in_head and self._is_answering():  # to the request before: that one was good
            self.cycle.keep_alive = False
            self.transport.pause_reading()
            return
        if not (self._is_answering() and self.cycle.response_started):  # nothing may mix with an answer
            self.transport.write(raw_error(status, message, (b"connection", b"close")))
        self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked."""
        return self._is_between() and not self._left

    def _is_between(self) -> bool:
        """Whether the next byte begins a request, and nothing is being answered."""
        return self._in_head and not self._head_size and not self._is_answering()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _should_upgrade_to_ws(self) -> bool:
        return False  # there is no route for one, and no layer would ask it for a key

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a caller may ask for HTTP/2 or a web socket, and gets what there is."""

    def _await_head(self) -> None:
        self._clock = self.loop.call_later(self.limits.header_timeout, self._end_waiting)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _end_waiting(self) -> None:
        if self.transport.is_closing():
            return
        if not self._head_size:  # it never sent anything: there is nothing to answer
            self.transport.close()
            return
        message = f"the head of the request did not arrive in {self.limits.header_timeout:g} s"
        self._refusal = HTTPStatus.REQUEST_TIMEOUT, "slow", message
        self.send_400_response("")

    def _refuse_large_head(self) -> None:
        message = f"expected a request line and headers of at most {self.limits.headers:,} bytes, got more"
        self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers", message

    def _is_wanted(self, size: int) -> bool:
        """Whether to read on what comes after the answer: a little, lest the answer be lost with the connection."""
        self._lingering += size
        if self._lingering > LINGER_BYTES:
            self.transport.abort()
        return self._lingering <= LINGER_BYTES


@dataclass(frozen=True, slots=True)
class SimplePost:
    """The head of a request that brings a body whose length is known, on a connection that shall last.

    Parameters
    ----------
    url : bytes
        What it asks for.
    headers : dict of bytes to bytes
        Names in lower case.
    length : int
        Bytes of its body.
    size : int
        Bytes of the head.
    """

    url: bytes
    headers: Headers
    length: int
    size: int


def simple_post(data: bytes) -> SimplePost | None:
    """Read the head of the request that some bytes begin with; None if it is not so simple, or not whole."""
    end = data.find(b"\r\n\r\n") if data.startswith(b"POST ") else -1
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    parts = [line.partition(b":") for line in lines]
    headers = {name.lower(): value.strip() for name, _, value in parts}
    _, url, version = (*first.split(b" "), b"", b"", b"")[:3]
    length = headers.get(b"content-length", b"")
    is_simple = (
        version == b"HTTP/1.1"
        and len(headers) == len(lines)
        and length.isdigit()
        and len(length) < 19
        and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and headers.keys().isdisjoint((b"transfer-encoding", b"expect"))
    )
    return SimplePost(url, headers, int(length), end + 4) if is_simple else None


def raw_error(status: int, message: str, *headers: tuple[bytes, bytes]) -> bytes:
    """Write a whole answer, in the shape that all errors have."""
    content = json.dumps({"error": message}).encode()
    lines = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *headers,
    ]
    return b"".join([STATUS_LINE[status], *(b"%b: %b\r\n" % line for line in lines), b"\r\n", content])


def take_the_place_of_uvicorns() -> None:
    """Let uvicorn use this for every connection of this process; it looks its own up by this name later."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
