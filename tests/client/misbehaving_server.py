"""A real HTTP server that misbehaves as a test prescribes."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.client import answers

TIMEOUT = 20.0  # seconds after which a test that waits for another request has failed

# With this option the system resets a connection when it is closed.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ReceivedRequest(httpx.Request):
    number: int  # from 0
    port: int  # of the client's end, and so of the connection


# A behaviour raises one of these to close the connection. Clients see a reset when the process of a service is killed.
class CloseWithoutAnswer(Exception): ...


class CloseMidAnswer(Exception): ...


class ResetConnection(Exception): ...


class Server:
    """Answers as `behave` says, and records the requests; those for the model index are only counted."""

    def __init__(self, behave: Callable[[ReceivedRequest], httpx.Response]) -> None:
        self.behave = behave
        self.requests: list[ReceivedRequest] = []
        self.index: Callable[[], httpx.Response] = answers.model_index
        self.n_index_requests = 0
        self.early_answer: httpx.Response | None = None  # given to every request with a body, before the body is read
        self.reads_rest = True  # whether the rest of such a body is read before the connection is closed
        self.authorizations: list[str | None] = []  # of all requests
        self.max_concurrent = 0
        self._concurrent = 0
        self._lock = threading.Lock()
        self.url = ""

    def answer(self, request: ReceivedRequest) -> httpx.Response:
        if request.url.path == answers.INDEX_PATH:
            self.n_index_requests += 1
            return self.index()
        with self._lock:
            request.number = len(self.requests)
            self.requests.append(request)
            self._concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self._concurrent)
        try:
            return self.behave(request)
        finally:
            with self._lock:
                self._concurrent -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_HttpServer"

    def do_POST(self) -> None:
        behaviour = self.server.behaviour
        behaviour.authorizations.append(self.headers.get("Authorization"))
        length = int(self.headers.get("Content-Length", 0))
        if length and behaviour.early_answer is not None:
            self.close_connection = True
            self._send(behaviour.early_answer)
            if behaviour.reads_rest:
                self.rfile.read(length)
            return
        content = self.rfile.read(length)
        request = ReceivedRequest(
            self.command, behaviour.url + self.path, headers=self.headers.items(), content=content
        )
        request.port = self.client_address[1]
        try:
            self._send(behaviour.answer(request))
        except CloseWithoutAnswer:
            self._close()
        except ResetConnection:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            os.close(self.connection.detach())
        except CloseMidAnswer:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            self._close()

    def _send(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        for name, value in {"content-length": str(len(answer.content)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass

    do_GET = do_POST


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    behaviour: Server

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


@contextmanager
def serve(behave: Callable[[ReceivedRequest], httpx.Response], port: int = 0) -> Iterator[Server]:
    server = Server(behave)
    http = _HttpServer(("127.0.0.1", port), _Handler)
    http.behaviour = server
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
