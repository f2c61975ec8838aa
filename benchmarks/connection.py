"""Connections that send one request again and again, at as little processor time as Python allows: here HTTP/1.1.

They never wait: whoever owns them watches the sockets with a selector and calls `advance`.
"""

import selectors
import socket
from abc import ABC, abstractmethod
from collections import deque

Buffer = bytes | memoryview

SOCKET_BUFFER = 1 << 20  # a request of one image then goes out in one call
CHUNK = 1 << 18  # bytes to receive at a time


class BadReply(Exception):
    """A server answered otherwise than it should."""


class Connection(ABC):
    """What those of HTTP and gRPC have in common.

    Parameters
    ----------
    port : int
        Of the server, on this machine.
    selector : selectors.BaseSelector
        That watches the connection; its data is the connection.
    """

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self._socket.setblocking(False)
        self._outgoing: deque[Buffer] = deque()
        self._watches_writing = False
        selector.register(self._socket, selectors.EVENT_READ, self)

    @abstractmethod
    def send(self) -> None:
        """Begin to send the request; the reply before must be there."""

    @abstractmethod
    def reply(self) -> tuple[bytes, bytes]:
        """Give head and body of the last reply."""

    @abstractmethod
    def _take(self, received: bytes) -> bool:
        """Take in what came; return whether the reply is complete."""

    def advance(self, events: int) -> bool:
        """Send and receive what can be, return whether the reply is complete.

        Raises
        ------
        BadReply
            If it is not a success.
        """
        if events & selectors.EVENT_WRITE:
            self._push()
        if not events & selectors.EVENT_READ:
            return False
        received = self._socket.recv(CHUNK)
        if not received:
            raise BadReply("the server closed the connection")
        return self._take(received)

    def close(self) -> None:
        """Close it."""
        self._selector.unregister(self._socket)
        self._socket.close()

    def _push(self) -> None:
        outgoing = self._outgoing
        try:
            while outgoing:
                sent = self._socket.sendmsg(list(outgoing)[:64])
                while outgoing and sent >= len(outgoing[0]):
                    sent -= len(outgoing.popleft())
                if sent:
                    outgoing[0] = memoryview(outgoing[0])[sent:]
        except BlockingIOError:
            pass
        if self._watches_writing != bool(outgoing):
            self._watches_writing = bool(outgoing)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if outgoing else 0)
            self._selector.modify(self._socket, events, self)


class HttpConnection(Connection):
    """HTTP/1.1, kept alive.

    Parameters
    ----------
    request : bytes
        All of it, with its head.
    """

    def __init__(self, port: int, selector: selectors.BaseSelector, request: bytes) -> None:
        super().__init__(port, selector)
        self._request = request
        self._received = b""
        self._body_at = self._needed = 0

    def send(self) -> None:
        """See `Connection.send`."""
        self._received, self._needed = b"", 0
        self._outgoing.append(self._request)
        self._push()

    def reply(self) -> tuple[bytes, bytes]:
        """See `Connection.reply`."""
        return self._received[: self._body_at], self._received[self._body_at :]

    def _take(self, received: bytes) -> bool:
        self._received = self._received + received if self._received else received
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._body_at = end + 4
            self._needed = self._body_at + body_length(self._received[:end])
        return len(self._received) >= self._needed


def body_length(head: bytes) -> int:
    """Read from the head of a reply how long its body is.

    Raises
    ------
    BadReply
        If it is no success, or does not say how long it is.
    """
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if not head.startswith(b"HTTP/1.1 200 ") or not found:
        raise BadReply(f"expected status 200 and a Content-Length, got {head.decode(errors='replace')!r}")
    return int(rest.partition(b"\r\n")[0])
