"""Send requests byte by byte, as HTTP clients do not, and read the responses."""

import socket
import struct
from http.client import parse_headers
from typing import Self
from urllib.parse import urlsplit

import httpx


class RawConnection:
    """One TCP connection."""

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(20.0)
        try:
            self._socket.connect((parts.hostname, parts.port))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def set_timeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def reset_at_exit(self) -> None:
        """Let the other side see a reset, not an end, when this one is closed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def read_response(self, *, bodiless: bool = False) -> httpx.Response | None:
        """Read the next response, without its body if it is one to HEAD; None if the connection ends before it."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            return None
        headers = httpx.Headers(parse_headers(self._file).items())
        content = b"" if bodiless else self._file.read(int(headers.get("content-length", 0)))
        return httpx.Response(int(line.split()[1]), headers=headers, content=content)

    def is_closed(self) -> bool:
        """Whether the other side closes the connection within 5 s, without sending more."""
        self._socket.settimeout(5.0)
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """Write the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: service", *headers, "", ""]).encode()
