"""Send requests byte by byte, as HTTP clients do not, and read the responses."""

import socket
from contextlib import suppress
from http.client import parse_headers
from typing import Self
from urllib.parse import urlsplit

import httpx

from tests.service.helpers import PATIENCE


class RawConnection:
    """One TCP connection."""

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE)
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

    def close_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def read_response(self) -> httpx.Response | None:
        """Read the next response; None if the connection ends before it."""
        line = b""
        with suppress(ConnectionResetError):
            line = self._file.readline()
        if not line:
            return None
        headers = httpx.Headers(parse_headers(self._file).items())
        content = self._file.read(int(headers.get("content-length", 0)))
        return httpx.Response(int(line.split()[1]), headers=headers, content=content)

    def is_closed(self) -> bool:
        """Whether the other side closes the connection without sending more."""
        try:
            return self._file.read(1) == b""
        except (ConnectionResetError, TimeoutError) as error:
            return isinstance(error, ConnectionResetError)


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """Write the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
