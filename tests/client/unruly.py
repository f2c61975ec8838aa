"""Real HTTP servers that misbehave as they are told to."""

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import v2_answers

from photoz.grid import SDSS_GRID
from photoz.protocol.contract import JSON
from photoz.protocol.open_inference import Request

TIMEOUT = 20.0  # seconds after which a test that waits for another request has failed


@dataclass(frozen=True)
class Asked:
    """A request as the server sees it."""

    path: str
    number: int
    port: int  # of the client's end: the same for all requests over one connection
    content: bytes
    headers: Mapping[str, str]

    @cached_property
    def request(self) -> Request:
        """What it says, if it asks for predictions."""
        return v2_answers.asked(self.content, self.headers)

    @property
    def images(self) -> np.ndarray:
        return self.request.inputs["images"].array

    @property
    def first(self) -> int:
        """Row number of its first cutout, which the tests write into the pixels."""
        return int(self.images[0, 0, 0, 0])

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Answer:
    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Reset(Exception):
    """Break the connection in the middle of an answer."""


class HangUp(Exception):
    """Close the connection without any answer."""


class Killed(Exception):
    """Reset the connection, as the system does for a process that was killed."""


# With this the system resets a connection that is closed, instead of taking leave.
LINGER_NOT = struct.pack("ii", 1, 0)


def good(asked: Asked, model: str = "photoz 1", n: int | None = None) -> Answer:
    """Answer each cutout, or the first n, with a PDF in the bin of its row number, modulo the number of bins."""
    bins = asked.images[:n, 0, 0, 0].astype(int) % SDSS_GRID.n_bins
    return Answer(200, *v2_answers.answer(asked.request, bins, model))


def names(model: str = "photoz") -> Answer:
    """Tell the name of the model."""
    return Answer(200, json.dumps(v2_answers.names(model)).encode(), {"Content-Type": JSON})


def refusal(status: int, sentence: str = "the reason", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"error": sentence}).encode(), {"Content-Type": JSON, **named})


class Server:
    """Counts what it is asked and how much at a time; for the name of its model, apart."""

    def __init__(self, behave: Callable[[Asked], Answer]) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self.tell_names: Callable[[], Answer] = names
        self.asked_for_names = 0
        self.answer_unread: Answer | None = None  # given to every body as it begins to come
        self.lingers = True  # whether the rest of such a body is thrown away, before the connection is closed
        self.authorizations: list[str | None] = []  # of all requests
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self.url = ""

    @property
    def firsts(self) -> list[int]:
        return [asked.first for asked in self.asked]

    def answer(self, path: str, port: int, content: bytes, headers: Mapping[str, str]) -> Answer:
        if path == v2_answers.NAMES_PATH:
            self.asked_for_names += 1
            return self.tell_names()
        with self._lock:
            asked = Asked(path, len(self.asked), port, content, headers)
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.behave(asked)
        finally:
            with self._lock:
                self._now -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_HttpServer"

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.server.told.authorizations.append(self.headers.get("Authorization"))
        length = int(self.headers.get("Content-Length", 0))
        if length and self.server.told.answer_unread is not None:
            return self._refuse_unread(self.server.told.answer_unread, length)
        content = self.rfile.read(length)
        try:
            answer = self.server.told.answer(self.path, self.client_address[1], content, self.headers)
        except HangUp:
            self._cut()
        except Killed:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            os.close(self.connection.detach())
        except Reset:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            self._cut()
        else:
            self._send(answer)

    def _refuse_unread(self, answer: Answer, length: int) -> None:
        self.close_connection = True
        self._send(answer)
        if self.server.told.lingers:
            self.rfile.read(length)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.content)), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    told: Server

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


@contextmanager
def serving(behave: Callable[[Asked], Answer], port: int = 0) -> Iterator[Server]:
    """Run a server for as long as the block."""
    server = Server(behave)
    http = _HttpServer(("127.0.0.1", port), _Handler)
    http.told = server
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def free_port() -> int:
    """Find a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def numbered(n: int, size: int = 4) -> np.ndarray:
    """Cutouts whose pixels are their row numbers."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, size, size, 2)).copy()
