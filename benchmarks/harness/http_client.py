"""A blocking HTTP/1.1 client that sends exactly the bytes it is given and never retries.

It distinguishes what a normal client hides: no connection (`Refused`), a connection that ended before the whole answer
arrived (`Lost`), and an answer that is not HTTP/1.1 (`NotHttp`). httptools parses an answer in 2 microseconds, so that
the load generator leaves the cores to the server.
"""

import contextlib
import select
import socket
import struct
import time
from collections import deque
from typing import NamedTuple

import httptools

CHUNK = 1 << 18  # bytes to receive at a time
SEND_BUFFER = 1 << 20  # bytes: a request of one image then leaves in one call
CONNECT_TIMEOUT = 10.0  # seconds
ANSWER_TIMEOUT = 120.0

# SO_LINGER with time 0: close() drops what is buffered and sends a reset.
RESET = struct.pack("ii", 1, 0)

now = time.perf_counter


class Refused(Exception):
    """The server did not accept the connection."""


class Lost(Exception):
    """The connection ended, or nothing came, before the whole answer."""


class Cut(Lost):
    """The connection ended before the whole request had been sent."""


class NotHttp(Exception):
    """The answer is not HTTP/1.1."""


class Reply(NamedTuple):
    """A whole answer: the names of headers in lower case, the body without its chunked coding."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server accepts nothing more on this connection."""
        return self.headers.get("connection", "").lower() == "close"


class Connection:
    """One connection to a server on this machine, from a given address or any; `Refused` if it cannot be made.

    `sent_at` is when the last byte of the last request had been sent.
    """

    def __init__(self, port: int, address: str | None = None) -> None:
        source = (address, 0) if address else None  # else the kernel can use a local port for several connections
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT, source)
        except OSError as error:
            raise Refused(type(error).__name__) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._parser, self._ended, self.sent_at = ResponseParser(), False, 0.0

    def ask(self, request: bytes, timeout: float = ANSWER_TIMEOUT) -> Reply:
        """Send a request and return the answer; `Lost` if there is none."""
        try:
            self.send(request)
        except Cut:
            with contextlib.suppress(Lost):  # the server may have refused the request before all was sent
                return self.receive(timeout)
            raise
        return self.receive(timeout)

    def send(self, part: bytes) -> None:
        """Send bytes; `Cut` if the connection ends before the kernel has taken them all."""
        self._socket.settimeout(ANSWER_TIMEOUT)
        try:
            self._socket.sendall(part)
        except OSError as error:
            raise Cut(f"{type(error).__name__} while sending") from error
        finally:
            self.sent_at = now()

    def receive(self, timeout: float = ANSWER_TIMEOUT, *, bodiless: bool = False) -> Reply:
        """Wait for an answer, skipping those of status 1xx; `Lost` if there is none."""
        self._parser.bodiless = bodiless
        self._socket.settimeout(timeout)
        while not self._parser.replies:
            if self._ended:
                raise Lost("end of connection" + " in the answer" * self._parser.has_begun)
            self._receive_part(timeout)
        return self._parser.replies.popleft()

    def is_over(self) -> bool:
        """Whether the server has closed the connection, or sent bytes that no request asked for."""
        return self._ended or bool(self._parser.replies) or self._peek() is not None

    def is_reset(self) -> bool:
        """Whether the connection is reset, now or within a second: the server has closed it and left bytes unread."""
        (poll := select.poll()).register(self._socket, 0)  # no events but errors
        return bool(poll.poll(1000))

    def finish_sending(self) -> None:
        """Shut down the sending side."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection, if asked for with a reset."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()

    def _peek(self) -> bytes | OSError | None:
        """Return the next byte, b"" at the end of the connection, None if nothing has come."""
        self._socket.settimeout(0)
        try:
            return self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError as error:
            return error

    def _receive_part(self, timeout: float) -> None:
        try:
            received = self._socket.recv(CHUNK)
        except TimeoutError as error:
            raise Lost(f"no answer in {timeout:g} s") from error
        except OSError as error:
            self._ended = True
            raise Lost(f"{type(error).__name__} while waiting") from error
        self._ended = not received
        try:
            self._parser.feed(received)
        except httptools.HttpParserError as error:
            raise NotHttp(f"{error}: {received[:80]!r}") from error


class ResponseParser:
    """Collects answers from the callbacks of httptools."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.replies: deque[Reply] = deque()
        self.has_begun = self.bodiless = self._until_end = False

    def feed(self, data: bytes) -> None:
        """Take in what came; b"" at the end of the connection."""
        if data:
            self._parser.feed_data(data)
        elif self._until_end:
            self.on_message_complete()

    def on_message_begin(self) -> None:
        """See `httptools`."""
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self.has_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools`."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """See `httptools`."""
        self._until_end = not self._headers.keys() & {"content-length", "transfer-encoding"}
        if self.bodiless:
            self.on_message_complete()

    def on_body(self, part: bytes) -> None:
        """See `httptools`."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """See `httptools`."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.replies.append(Reply(status, self._headers, b"".join(self._parts)))
        self.has_begun = self._until_end = False


def request_head(first: str, *headers: str) -> bytes:
    """Write the head of a request, "GET /livez" say."""
    return "\r\n".join([f"{first} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1")


def request(method: str, path: str, body: bytes = b"", *headers: str, content_type: str = "") -> bytes:
    """Write a whole request as an ordinary client does."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
