"""Send requests byte by byte, as HTTP clients do not, and read the responses."""

import json
import socket
from dataclasses import dataclass
from http.client import HTTPMessage, parse_headers
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def error(self) -> str:
        """The message of an error of the service, in its one shape."""
        assert self.headers["content-type"] == "application/json"
        content = json.loads(self.body)
        assert list(content) == ["error"]
        return content["error"]


class RawConnection:
    """One TCP connection."""

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=timeout)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def close_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def read_response(self) -> RawResponse | None:
        """Read the next response; None if the connection ends before it begins."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            return None
        headers = parse_headers(self._file)
        return RawResponse(int(line.split()[1]), headers, self._file.read(int(headers.get("content-length", 0))))

    def is_closed(self, within: float = 5.0) -> bool:
        """Whether the other side closes the connection, without sending more."""
        self._socket.settimeout(within)
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """Write the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: service", *headers, "", ""]).encode()
