"""Slow, oversized, malformed and aborted requests; some of them are refused by the HTTP server, in its own way."""

import gzip
import io
import time
import zlib
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from photoz.errors import PhotozError
from photoz.io.npz import npz_bytes
from service.errors import error_response
from service.limits import Limits
from service.metrics import Metrics
from service.request import Request
from service.settings import Settings
from tests.running import running_service
from tests.service.conftest import MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_ROWS
from tests.service.helpers import EVALUATION, check_error, get, metric, post, suspended_evaluations, wait_for
from tests.service.raw_http import RawConnection, head
from tests.service.requests import make_scope
from tests.toys import GRID_90, GRIZ, galaxies, npy_bytes, toy_card

MODEL = head("/model", method="GET")
CUTOUT = npy_bytes(galaxies(GRIZ, 1))
POST = head("/predict_file", f"Content-Length: {len(CUTOUT)}") + CUTOUT
JUNK = "a" * (MAX_HEADER_BYTES + 1000)
CHUNKED = head("/predict_file", "Transfer-Encoding: chunked")
EXPECT = "Expect: 100-continue"
INFER = "/v2/models/toy/infer"
LARGE = bytes(MAX_BODY_BYTES)
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def url(small_service):
    return small_service.url


@pytest.fixture
def connection(url):
    with RawConnection(url) as connection:
        yield connection


def test_slow_clients_are_disconnected(small_bundle, tmp_path):
    """The service waits half a second for a head, a body, and the next request."""
    seconds = {"PHOTOZ_HEADER_TIMEOUT": 0.5, "PHOTOZ_TRANSFER_TIMEOUT": 0.5}
    with running_service(tmp_path, PHOTOZ_BUNDLE=small_bundle.path, **seconds) as service, ExitStack() as stack:

        def send(content):
            connection = stack.enter_context(RawConnection(service.url))
            with suppress(OSError):  # it was closed already
                connection.send(content)
            return connection

        begin, slow = time.monotonic(), send(b"")
        silent = [send(content) for content in (b"", b"\r\n", MODEL[:30])]  # idle, and two halves of a head
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # though bytes keep arriving
            wait_for(lambda: slow.send(b"G"))
        assert all(connection.is_closed() for connection in silent)
        assert time.monotonic() - begin > 0.45
        heads = MODEL, head("/predict_file", "Content-Length: 20000"), CHUNKED
        for content, connection in [(content, send(content)) for content in heads]:
            while not (response := connection.read_response()):
                connection = send(content)  # this process was too slow
            assert response.status_code == (200 if content is MODEL else 408)
            assert connection.is_closed()
        check_error(response, 408, "the body did not arrive in time: 0 bytes in 0.5 s")


def test_head_that_is_too_large_is_refused(url):
    for content in (head("/model", f"X-Junk: {JUNK}", method="GET"), head("/model", f"X-Junk: {250 * JUNK}")[:-4]):
        with RawConnection(url) as connection:
            connection.send(content)
            response = connection.read_response()
            assert response.status_code == 431
            if response.content:  # granian's own response has none
                check_error(response, 431, "expected a request line and headers of at most 4,096 bytes, got more")
            assert connection.is_closed()


LARGEST = "a" * (1024 - len("POST /? HTTP/1.1\r\nhost: service\r\nx-a: \r\n\r\n"))
HEADS = {
    "largest": ({"x_a": LARGEST}, {}, 200),
    "too large": ({"x_a": LARGEST + "a"}, {}, 431),
    "too large with its query": ({"x_a": LARGEST}, {"query_string": b"a"}, 431),
    "two hosts": ({"host": "other"}, {}, 400),
    "empty host": ({}, {"headers": [(b"host", b"")]}, 400),
    "empty host, HTTP/1.0": ({}, {"headers": [(b"host", b"")], "http_version": "1.0"}, 200),
    "two hosts, HTTP/1.0": ({"host": "other"}, {"http_version": "1.0"}, 400),
    "coding": ({"transfer_encoding": "gzip"}, {}, 400),
    "chunked": ({"transfer_encoding": "Chunked"}, {}, 200),
    "pickle": ({"content_type": "Application/VND.bentoml+pickle; a=b"}, {}, 415),
}


@pytest.mark.parametrize(("headers", "fields", "status"), HEADS.values(), ids=HEADS)
def test_heads_that_are_refused(headers, fields, status):
    limits = Limits(Settings(max_header_bytes=1024), Metrics(toy_card(GRIZ, GRID_90, False)))
    scope, found = make_scope(path="/", **headers) | fields, 200
    try:
        limits.check_head(Request(scope, limits.memory), scope)
    except PhotozError as error:
        found = error_response(error).status_code
    assert found == status


TOO_MANY = galaxies(GRIZ, MAX_ROWS + 1)
JSON = b'{"images": [' + b"[]," * 25_000 + b"[]]}"
PDFS = npz_bytes({"pdfs": np.ones((25 * MAX_ROWS + 1, 90), np.float16), "z_spec": np.full(25 * MAX_ROWS + 1, 0.1)})
np.savez_compressed(BOMB := io.BytesIO(), images=TOO_MANY[:3], bomb=np.zeros(10**7))
OVERSIZED = {
    "streamed": ("/predict_file", iter([bytes(10_000)] * 100), "", "a body of at most 400,000 bytes, got more"),
    "archive": ("/predict_file", BOMB.getvalue(), "", "bytes unpacked, got 80,"),
    "rows": ("/predict_file", npy_bytes(TOO_MANY), "", "at most 45 galaxies in one request, got 46: send them in"),
    "PDFs": ("/evaluate", PDFS, "", "at most 1,125 galaxies in one request, got 1,126"),
    "JSON": ("/predict", JSON, "", "and what it decodes into take 6,4"),
    "gzip": (INFER, gzip.compress(bytes(10**7)), "gzip", "a body of at most 400,000 bytes, got more"),
    "deflate": (INFER, zlib.compress(bytes(10**7)), "deflate", "a body of at most 400,000 bytes, got more"),
}


@pytest.mark.parametrize(("path", "content", "encoding", "message"), OVERSIZED.values(), ids=OVERSIZED)
def test_body_that_is_or_becomes_too_large_is_refused(url, path, content, encoding, message):
    check_error(post(url, path, content, content_encoding=encoding), 413, message)


def test_refused_body_within_the_limit_is_drained_and_the_connection_kept(connection):
    refused = head(INFER, f"Content-Length: {len(LARGE) - 1}", "Content-Encoding: br") + LARGE[1:]
    connection.send(refused + head("/predict_file", f"Content-Length: {len(CUTOUT)}", EXPECT))
    check_error(connection.read_response(), 415, "cannot read Content-Encoding br: expected gzip or deflate")
    assert connection.read_response().status_code == 100
    connection.send(CUTOUT)
    assert connection.read_response().status_code == 200


def test_slow_uploads_share_a_memory_budget_and_are_not_in_flight(url):
    """While others hold nearly all of it, small bodies are taken, and a large one as soon as the others are gone."""
    with ExitStack() as stack:
        for _ in range(8):  # the last eighth is kept for other clients
            connection = stack.enter_context(RawConnection(url))
            connection.send(head("/predict_file", f"Content-Length: {MAX_BODY_BYTES}"))
        wait_for(lambda: metric(url, "photoz_request_memory_bytes") == 8 * MAX_BODY_BYTES)
        assert metric(url, "photoz_requests_in_flight") == 0
        check_error(post(url, "/predict_file", LARGE), 429, "other requests hold all memory; try again in a second")
        assert post(url, "/predict_file", CUTOUT).status_code == 200
        assert get(url, "/readyz").status_code == 200
    wait_for(lambda: post(url, "/predict_file", LARGE).status_code == 400)  # it arrived, and is no file
    largest = post(url, "/predict_file", npz_bytes({"images": galaxies(GRIZ, 40)}))  # more than half of a body
    assert len(largest.json()["z_mean"]) == 40


TRAILERS = b"X-Trailer: " + b"a" * 4000 + b"\r\n"
UNREAD = head("/", method="GET") * 1000  # requests whose answers are not read


@pytest.mark.parametrize(
    ("first", "again", "limit"), [(CHUNKED + b"0\r\n", TRAILERS, 10 * MIB), (b"", UNREAD, 20 * MIB)]
)
def test_endless_input_is_not_received(connection, first, again, limit):
    sent = 0
    connection.set_timeout(1.0)
    with suppress(OSError):
        connection.send(first)
        while sent < 60 * MIB:
            connection.send(again)
            sent += len(again)
    assert sent < limit


def test_client_that_disconnects_is_counted_and_its_memory_released(url, connection):
    name, route = "photoz_requests_total", "/predict_file"
    before = metric(url, name, route=route)
    for content in (POST[:-100], POST):
        with RawConnection(url) as gone:
            gone.send(content)
    connection.send(POST[:-100])
    connection.close_sending()
    assert connection.read_response().status_code == 400
    assert connection.is_closed()
    wait_for(lambda: metric(url, name, route=route) >= before + 3)  # another test's request may be counted after it
    wait_for(lambda: metric(url, "photoz_requests_in_flight") == 0)
    wait_for(lambda: metric(url, "photoz_request_memory_bytes") == 0)  # counts heads on their way, also of this request


def test_work_for_a_client_that_disconnects_is_cancelled(small_service):
    url, labels = small_service.url, {"route": "/evaluate", "status": "499"}
    cancelled = metric(url, "photoz_requests_total", **labels)
    with suspended_evaluations(small_service):
        with RawConnection(url) as connection:
            connection.send(head("/evaluate", f"Content-Length: {len(EVALUATION)}") + EVALUATION)
            wait_for(lambda: metric(url, "photoz_requests_in_flight") == 1)
        wait_for(lambda: metric(url, "photoz_requests_total", **labels) == cancelled + 1)
        assert metric(url, "photoz_requests_in_flight") == 0
