"""A real HTTP server that may misbehave, and predictions by the blocking and by the asyncio client."""

import asyncio
import os
import socket
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from photoz_client import AsyncPhotozClient, PhotozClient, PredictionIncomplete, Retries
from tests.client.answers import INDEX_PATH, model_index

TIMEOUT = 120.0  # seconds after which a test that waits for another request has failed
ROWS = 4  # per request, by the fixture `small_requests`

# What the server may do instead of answering. Clients see a reset when the process of a service is killed.
CLOSE, CLOSE_MID_ANSWER, RESET = "close the connection", "close it mid-answer", "reset it"


def _client_options(options):
    """Take the options of a client out of those of a prediction."""
    defaults = {"retries": Retries(base_delay=0.0), "timeout": TIMEOUT, "in_flight": 4, "api_key": None}
    return {name: options.pop(name, default) for name, default in defaults.items()}


def blocking(url, images, **options):
    with PhotozClient(url, **_client_options(options)) as client:
        return client.predict(images, **options)


def asynchronous(url, images, **options):
    async def predict():
        async with AsyncPhotozClient(url, **_client_options(options)) as client:
            return await client.predict(images, **options)

    return asyncio.run(predict())


def incomplete(predict, *arguments, **options):
    with pytest.raises(PredictionIncomplete) as caught:
        predict(*arguments, **options)
    return caught.value


class Server(ThreadingHTTPServer):
    """Answers as `behave` says, and records the requests; those for the model index are only counted."""

    def __init__(self, behave):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.behave, self.index = behave, model_index
        self.requests, self.n_index_requests = [], 0
        self.authorizations = []  # of all requests
        self.concurrent, self._running = [], []  # how many requests there were when each began

    def answer(self, request):
        if request.url.path == INDEX_PATH:
            self.n_index_requests += 1
            return self.index()
        for requests in (self.requests, self._running):
            requests.append(request)
        self.concurrent.append(len(self._running))
        try:
            return self.behave(request)
        finally:
            self._running.remove(request)

    def handle_error(self, request, client_address):
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def do_POST(self):
        server, content = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.authorizations.append(self.headers.get("Authorization"))
        request = httpx.Request(self.command, server.url + self.path, headers=self.headers.items(), content=content)
        answer = server.answer(request)
        if isinstance(answer, httpx.Response):
            self.send_response(answer.status_code)
            for name, value in {"content-length": str(len(answer.content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)
            return
        self.close_connection = True
        if answer == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            return
        if answer == CLOSE_MID_ANSWER:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST

    def log_message(self, *_):
        pass


@contextmanager
def serve(behave):
    with Server(behave) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
