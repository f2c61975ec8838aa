"""A raw HTTP/1.1 client that knows what became of each byte: what was sent, what came back, what was lost.

It never asks again. A request whose last byte the kernel took, and that no whole answer came to, is `Lost`; one for
which nobody took a connection is `Refused`.
"""

import asyncio
import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 18  # bytes to receive at a time
CONNECT_TIMEOUT = 10.0  # seconds
ANSWER_TIMEOUT = 120.0

# At SO_LINGER with time 0 a close drops what lies in the buffers and sends a reset in place of a farewell.
RESET = struct.pack("ii", 1, 0)

DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4"}

now = time.perf_counter


class Refused(Exception):
    """Nobody took the connection."""


class Lost(Exception):
    """The connection ended, or nothing came, before a whole answer was there.

    Parameters
    ----------
    how : str
        In a few words.
    whole : bool
        Whether the last byte of the request had been sent.
    """

    def __init__(self, how: str, *, whole: bool) -> None:
        super().__init__(how)
        self.whole = whole


class NotHttp(Exception):
    """What came back is no HTTP/1.1."""


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    Parameters
    ----------
    status : int
        Of HTTP.
    headers : dict of str to str
        By their names in lower case.
    body : bytes
        Without its chunks' lengths.
    sent, answered : float
        When the last byte of the request left, and when the last one of the answer was there; seconds.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    sent: float
    answered: float

    @property
    def closes(self) -> bool:
        """Whether the server will take nothing more on this connection."""
        return self.headers.get("connection", "").lower() == "close"


class Connection:
    """One connection; only `open` makes them."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = bytearray()
        self._ended = False
        self.local_port: int = connected.getsockname()[1]

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to a server on this machine; `Refused` if nobody is there."""
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port)), CONNECT_TIMEOUT)
        except (OSError, TimeoutError) as error:
            one.close()
            raise Refused(type(error).__name__) from error
        return cls(one)

    async def ask(self, request: bytes, timeout: float = ANSWER_TIMEOUT) -> Reply:
        """Send a request and wait for the answer; `Lost` if there is none."""
        await self.send(request)
        return await self.receive(timeout)

    async def send(self, part: bytes) -> None:
        """Hand bytes to the kernel; `Lost` if it cannot take them all."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, part)
        except OSError as error:
            raise Lost(f"{type(error).__name__} while sending", whole=False) from error

    async def receive(self, timeout: float = ANSWER_TIMEOUT, *, bodiless: bool = False) -> Reply:
        """Wait for an answer, past those of status 1xx; `Lost` if there is none."""
        sent = now()
        try:
            async with asyncio.timeout(timeout):
                status, headers, body = await self._answer(bodiless)
        except TimeoutError as error:
            raise Lost(f"no answer in {timeout:g} s", whole=True) from error
        return Reply(status, headers, body, sent, now())

    def is_over(self) -> bool:
        """Whether the server has closed it, or said something that nobody asked for."""
        try:
            return self._ended or self._socket.recv(1, socket.MSG_PEEK) is not None
        except BlockingIOError:
            return False
        except OSError:
            return True

    def has_farewell(self) -> bool:
        """Whether the server has said that nothing more comes from it, and nothing else."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return False

    def finish_sending(self) -> None:
        """Tell the server that nothing more will come."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close it, with a reset if that is wanted."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()

    async def _answer(self, bodiless: bool) -> tuple[int, dict[str, str], bytes]:
        while True:
            status, headers = _head(await self._until(b"\r\n\r\n"))
            if status >= 200:
                break
        if bodiless or status in (204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return status, headers, await self._chunks()
        if "content-length" in headers:
            return status, headers, await self._exactly(int(headers["content-length"]))
        return status, headers, await self._rest()

    async def _chunks(self) -> bytes:
        parts = []
        while size := int((await self._until(b"\r\n")).split(b";")[0], 16):
            parts.append((await self._exactly(size + 2))[:-2])
        await self._exactly(2)
        return b"".join(parts)

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._received.find(mark)) < 0:
            await self._more()
        return await self._exactly(at + len(mark))

    async def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._more()
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _rest(self) -> bytes:
        with contextlib.suppress(Lost):
            while True:
                await self._more()
        return await self._exactly(len(self._received))

    async def _more(self) -> None:
        try:
            came = await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)
        except OSError as error:
            self._ended = True
            raise Lost(f"{type(error).__name__} while waiting", whole=True) from error
        if not came:
            self._ended = True
            raise Lost("end of connection in the answer" if self._received else "end of connection", whole=True)
        self._received += came


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise NotHttp(f"expected an answer of HTTP/1.1, got {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def request(method: str, path: str, body: bytes = b"", *headers: str, content_type: str = "") -> bytes:
    """Write a whole request, as a plain client writes it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def tensors(reply: Reply) -> dict[str, npt.NDArray[np.generic]]:
    """Read the binary tensors of an answer of the Open Inference Protocol."""
    at = int(reply.headers["inference-header-content-length"])
    found = {}
    for output in json.loads(reply.body[:at])["outputs"]:
        end = at + output["parameters"]["binary_data_size"]
        values = np.frombuffer(reply.body[at:end], DTYPES[output["datatype"]])
        found[output["name"]], at = values.reshape(output["shape"]), end
    return found
