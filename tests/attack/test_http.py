"""Malformed HTTP: the service answers with a client error or closes the connection, and stays up."""

import re
import socket
from contextlib import suppress

import httpx
import pytest

from tests.attack.malformed_inputs import CHUNKS, CONTENT_LENGTHS, HEADERS, METHODS, NOT_HTTP, PATHS

pytestmark = pytest.mark.e2e


def head(*lines, start="POST /predict_file HTTP/1.1"):
    return "\r\n".join([start, "Host: a", "Connection: close", *lines, "", ""]).encode("latin-1")


REQUESTS = {
    "not HTTP": NOT_HTTP,
    "method": [head(start=f"{method} /livez HTTP/1.1") for method in METHODS],
    "path": [head(start=f"GET {path} HTTP/1.1") for path in PATHS],
    "header": [head("Content-Length: 3", header) + b"abc" for header in HEADERS],
    "length": [head(f"Content-Length: {length}") + b"abc" for length in CONTENT_LENGTHS],
    "chunks": [head("Transfer-Encoding: chunked") + chunks for chunks in CHUNKS],
}


def exchange(port, request):
    """Send a request, and the end of the stream if there is no response within 0.5 s; return what is received first."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection, suppress(ConnectionError):
        connection.sendall(request)
        with suppress(TimeoutError):
            return connection.recv(65536)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(30)
        return connection.recv(65536)
    return b""  # the service closed the connection


@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
def test_malformed_requests_do_no_harm(service, requests):
    worker = service.workers[0].pid
    for request in requests:
        received = exchange(service.port, request)
        assert not received or re.match(rb"HTTP/1.1 [234]\d\d ", received), (request[:200], received[:400])
    assert service.workers[0].pid == worker
    assert httpx.get(f"{service.url}/livez").status_code == 200
