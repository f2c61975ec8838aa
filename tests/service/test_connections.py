"""Slow, oversized, malformed and aborted requests; some of them are refused by the HTTP server, in its own way."""

import time
from contextlib import suppress

import httpx
import numpy as np
import pytest

from photoz.io.npz import npz_bytes
from tests.service.conftest import MAX_HEADER_BYTES
from tests.service.helpers import check_error, metric, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

MODEL = head("/model", method="GET")
CUTOUT = npy_bytes(galaxies(GRIZ, 1))
POST = head("/predict_file", f"Content-Length: {len(CUTOUT)}") + CUTOUT
JUNK = "a" * (MAX_HEADER_BYTES + 1000)
EVALUATION = npz_bytes({"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)})


@pytest.fixture
def connection(small_service):
    with RawConnection(small_service.url) as connection:
        yield connection


@pytest.fixture(scope="module", autouse=True)
def _service_survives(small_service):
    """None of these requests ends the worker or is logged as an error."""
    workers = small_service.workers
    yield
    assert httpx.post(f"{small_service.url}/predict_file", content=CUTOUT).status_code == 200
    assert small_service.workers == workers
    assert "Traceback" not in small_service.log.read_text()


@pytest.mark.parametrize("first", [b"", MODEL], ids=["new", "used"])
@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /model HTTP/1.1\r\nHost: serv"], ids=["idle", "CRLF", "half"])
def test_connection_is_closed_after_the_header_timeout(connection, first, sent):
    if first:
        connection.send(first)
        assert connection.read_response().status_code == 200
    begin = time.monotonic()
    connection.send(sent)
    assert connection.is_closed()
    assert time.monotonic() - begin > 0.8


def test_slow_head_is_refused_though_bytes_keep_arriving(connection):
    begin = time.monotonic()
    with suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() - begin < 4:
            connection.send(b"G")
            time.sleep(0.05)
    assert time.monotonic() - begin < 4


OVERSIZED = {
    "header": head("/model", f"X-Junk: {JUNK}", method="GET"),
    "request line": head(f"/model?{JUNK}", method="GET"),
    "many headers": head("/model", *(f"X-{i}: a" for i in range(600)), method="GET"),
    "without an end": head("/model", f"X-Junk: {250 * JUNK}", method="GET")[:-4],
}


@pytest.mark.parametrize("content", OVERSIZED.values(), ids=OVERSIZED)
def test_head_that_is_too_large_is_refused(connection, content):
    connection.send(content)
    response = connection.read_response()
    assert response.status_code == 431
    if response.content:  # granian's own response has none
        check_error(response, 431, "expected a request line and headers of at most 4,096 bytes, got more")
    assert connection.is_closed()


def test_head_of_the_largest_size_is_accepted(connection):
    connection.send(head("/model", "X-Filler: " + "a" * (MAX_HEADER_BYTES - 100), method="GET"))
    assert connection.read_response().status_code == 200


MALFORMED = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "short": b"GET\r\n\r\n",
    "version": b"GET /model HTTP/9.9\r\n\r\n",
    "HTTP/2": b"GET /model HTTP/2.0\r\nHost: service\r\n\r\n",
    "NUL": head("/model", "X-A: a\0b", method="GET"),
    "space before colon": head("/predict_file", "Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "header": b"GET /model HTTP/1.1\r\nHost : service\r\n\r\n",
    "negative length": head("/predict_file", "Content-Length: -3"),
    "two lengths": head("/predict_file", "Content-Length: 3", "Content-Length: 4"),
    "encoding": head("/predict_file", "Transfer-Encoding: gzip"),
    "chunk": head("/predict_file", "Transfer-Encoding: chunked") + b"zz\r\nnothing\r\n",
    "cut off": POST[:-100],
    # What follows such a body must not be taken for a request (request smuggling).
    "two framings": head("/predict_file", "Content-Length: 6", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + MODEL,
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_refused(connection, content):
    connection.send(content)
    connection.close_sending()
    assert connection.read_response().status_code == 400
    assert connection.is_closed()


def test_pipelined_requests_are_answered_in_order_up_to_garbage(connection):
    requests = [head("/livez", f"X-Request-Id: {i}", method="GET") for i in range(5)]
    connection.send(b"".join(requests) + b"\x00\x01nonsense\r\n\r\n")
    assert [connection.read_response().headers["x-request-id"] for _ in requests] == list("01234")
    assert connection.read_response().status_code == 400
    assert connection.is_closed()


def test_continue_is_sent_before_a_body_is_received(connection):
    connection.send(head("/predict_file", f"Content-Length: {len(CUTOUT)}", "Expect: 100-continue"))
    assert connection.read_response().status_code == 100
    connection.send(CUTOUT)
    assert connection.read_response().status_code == 200


def test_websocket_is_not_accepted(connection):
    headers = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"
    connection.send(head("/predict", *headers, method="GET"))
    assert connection.read_response().status_code in (400, 405)


def test_client_that_disconnects_is_counted_and_its_memory_released(small_service):
    url, name, route = small_service.url, "photoz_requests_total", "/predict_file"
    before = metric(url, name, route=route)
    for content in (POST[:-100], POST):
        with RawConnection(url) as connection:
            connection.send(content)
    wait_for(lambda: metric(url, name, route=route) == before + 2)
    assert metric(url, "photoz_requests_in_flight") == 0
    wait_for(lambda: metric(url, "photoz_request_memory_bytes") == 0)  # counts heads on their way, also of this request


@pytest.mark.parametrize("resets", [False, True])
def test_work_for_a_client_that_disconnects_is_cancelled(small_service, resets):
    labels = {"route": "/evaluate", "status": "499"}
    cancelled = metric(small_service.url, "photoz_requests_total", **labels)
    with RawConnection(small_service.url) as connection:
        headers = "Accept: text/html", f"Content-Length: {len(EVALUATION)}"
        connection.send(head("/evaluate", *headers) + EVALUATION)
        wait_for(lambda: metric(small_service.url, "photoz_requests_in_flight") == 1)
        wait_for(small_service.workers[0].children)
        (child,) = small_service.workers[0].children()
        time.sleep(0.5)  # quick requests are not watched
        if resets:
            connection.reset_at_exit()
    wait_for(lambda: metric(small_service.url, "photoz_requests_total", **labels) == cancelled + 1)
    assert metric(small_service.url, "photoz_requests_in_flight") == 0
    wait_for(lambda: not child.is_running())
