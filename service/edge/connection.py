"""One connection: what comes before there is a request that a layer could judge.

uvicorn waits for ever for the head of a request, takes heads of any size, and reads on for ever what nobody wants any
more (uvicorn 0.54, uvicorn/protocols/http/httptools_impl.py). This one does not.
"""

import asyncio
import json
import resource
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import uvicorn.config
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


class Connection(HttpToolsProtocol):
    """uvicorn's, with limits; `configure` sets them, once for a process."""

    limits = Limits()
    most = 1024
    note_refused: Note = staticmethod(lambda reason: None)

    @classmethod
    def configure(cls, limits: Limits, note_refused: Note) -> None:
        """Set the limits, and take as many connections as this process may have files.

        Parameters
        ----------
        limits : Limits
            Of the head of a request.
        note_refused : callable
            Told why, for each connection that is ended before it brought a request.
        """
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        cls.limits, cls.note_refused = limits, staticmethod(note_refused)
        cls.most = MOST if hard == resource.RLIM_INFINITY else min(max(hard - SPARE_FILES, 1), MOST)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.timeout_keep_alive = KEEP_ALIVE
        self._in_head, self._in_message = True, False
        self._head_size = self._lingering = 0
        self._clock: asyncio.TimerHandle | None = None
        self._refusal: tuple[HTTPStatus, str, str] | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.note_refused("too many")
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
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

    def on_message_complete(self) -> None:
        """Note that the whole of a request has come; the next begins with a head."""
        self._in_head, self._in_message = True, False
        self._lingering = 0
        self._stop_clock()
        super().on_message_complete()

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
            self.transport.write(_error(status, message))
        self.transport.close()

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


def _error(status: HTTPStatus, message: str) -> bytes:
    content = json.dumps({"error": message}).encode()
    headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(content)
    return STATUS_LINE[status] + headers + content


def take_the_place_of_uvicorns() -> None:
    """Let uvicorn use this for every connection of this process; it looks its own up by this name later."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
