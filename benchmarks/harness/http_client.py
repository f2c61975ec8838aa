"""A blocking HTTP/1.1 client that sends exactly the bytes it is given and never retries.

It distinguishes what a normal client hides: no connection (`Refused`), a connection that ended before the whole answer
arrived (`Lost`), and an answer that is not HTTP/1.1 (`NotHttp`).
"""

import contextlib
import socket
import struct
import time
from dataclasses import dataclass

import h11

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
    """The connection ended, or nothing came, before the whole answer had arrived.

    Parameters
    ----------
    reason : str
        In a few words.
    sent : bool
        Whether the last byte of the request had been sent.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class NotHttp(Exception):
    """The answer is not HTTP/1.1."""


@dataclass(frozen=True)
class Reply:
    """A whole answer: the names of headers in lower case, the body without its chunked coding."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server accepts nothing more on this connection."""
        return self.headers.get("connection", "").lower() == "close"


def open_socket(port: int) -> socket.socket:
    """Connect to a server on this machine; `Refused` if it does not accept the connection."""
    try:
        opened = socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT)
    except OSError as error:
        raise Refused(type(error).__name__) from error
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return opened


class Connection:
    """One connection to a server on this machine; `Refused` if it cannot be made."""

    def __init__(self, port: int) -> None:
        self._socket = open_socket(port)
        self._unread, self._ended = b"", False

    def ask(self, request: bytes, timeout: float = ANSWER_TIMEOUT) -> Reply:
        """Send a request and wait for the answer; `Lost` if there is none."""
        self.send(request)
        return self.receive(timeout)

    def send(self, part: bytes) -> None:
        """Send bytes; `Lost` if the connection ends before the kernel has taken them all."""
        self._socket.settimeout(ANSWER_TIMEOUT)
        try:
            self._socket.sendall(part)
        except OSError as error:
            raise Lost(f"{type(error).__name__} while sending", sent=False) from error

    def receive(self, timeout: float = ANSWER_TIMEOUT, *, method: str = "POST") -> Reply:
        """Wait for the answer to a method, skipping those of status 1xx; `Lost` if there is none."""
        deadline = now() + timeout
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        if self._unread:
            parser.receive_data(self._unread)
        head, parts = None, []
        try:
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    parser.receive_data(self._receive_some(deadline))
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    parts.append(bytes(event.data))
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise Lost("end of connection" + " in the answer" * bool(head), sent=True) from error
            raise NotHttp(str(error)) from error
        assert head is not None  # the end of a message follows its head
        self._unread = parser.trailing_data[0]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return Reply(head.status_code, headers, b"".join(parts))

    def is_over(self) -> bool:
        """Whether the server has closed the connection, or sent bytes that no request asked for."""
        return self._ended or self._peek() is not None

    def is_closed_by_server(self) -> bool:
        """Whether the server has ended its side of the connection, and sent nothing else."""
        return self._peek() == b""

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

    def _receive_some(self, deadline: float) -> bytes:
        self._socket.settimeout(max(deadline - now(), 1e-3))
        try:
            received = self._socket.recv(CHUNK)
        except TimeoutError as error:
            raise Lost("no answer in time", sent=True) from error
        except OSError as error:
            self._ended = True
            raise Lost(f"{type(error).__name__} while waiting", sent=True) from error
        self._ended = not received
        return received


def request(method: str, path: str, body: bytes = b"", *headers: str, content_type: str = "") -> bytes:
    """Write a whole request as an ordinary client does."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
