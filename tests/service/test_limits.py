"""Limits: requests over them are refused with a message, and do not affect others."""

import gzip
import io
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import pytest

from photoz.flags import Flag
from photoz.inference.predictor import Predictor
from photoz.io.npz import npz_bytes
from tests.service.conftest import MAX_BODY_BYTES, MAX_IN_FLIGHT, MAX_ROWS
from tests.service.helpers import check_error, metric, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRID_90, GRIZ, galaxies, npy_bytes, toy_batch

CUTOUT = npy_bytes(galaxies(GRIZ, 1))
INFER = "/v2/models/toy/infer"


@pytest.fixture(scope="module")
def url(small_service):
    return small_service.url


def post(url, path, content, **headers):
    return httpx.post(f"{url}{path}", content=content, headers=headers, timeout=60.0)


def test_other_sizes_bands_and_grids_are_served(url, small_bundle):
    cutouts = np.concatenate([galaxies(GRIZ, 3), 10 * galaxies(GRIZ, 2)])
    content = npz_bytes({"images": cutouts, "z_spec": np.array([0.1, 0.5, 0.7, 0.3, 0.3])})
    answer = post(url, "/predict_file?pdf=true", content).json()
    expected = Predictor.load(small_bundle).predict(toy_batch(cutouts, small_bundle.card))
    np.testing.assert_allclose(answer["pdf"], expected.pdf, atol=1e-9)
    np.testing.assert_allclose(np.array(answer["pdf"]) @ GRID_90.centres, answer["z_mean"], atol=1e-9)
    np.testing.assert_allclose(answer["ood_score"], expected.ood_score, rtol=1e-6)
    assert answer["flags"] == (expected.flags & ~Flag.EBV_ASSUMED).tolist()  # the network does not take E(B-V)
    assert [bool(flags & Flag.OUT_OF_DISTRIBUTION) for flags in answer["flags"]] == [False] * 3 + [True] * 2
    assert post(url, "/evaluate", content).json()["dropped"] == ["2"]


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
    check_error(post(url, path, content, **{"content-encoding": encoding}), 413, message)


def test_declared_body_that_is_too_large_is_refused_at_once(url):
    with RawConnection(url) as connection:
        connection.send(head("/predict_file", f"Content-Length: {MAX_BODY_BYTES + 1}") + bytes(1000))
        expected = "expected a body of at most 400,000 bytes, got 400,001: send it in parts"
        check_error(connection.read_response(), 413, expected)


def test_refused_body_within_the_limit_is_drained_and_the_connection_kept(url):
    with RawConnection(url) as connection:
        length = MAX_BODY_BYTES - 1
        refused = head("/v2/models/toy/infer", f"Content-Length: {length}", "Content-Encoding: br") + bytes(length)
        connection.send(refused + head("/model", method="GET"))
        check_error(connection.read_response(), 415, "cannot read Content-Encoding br: expected gzip or deflate")
        assert connection.read_response().status_code == 200


@pytest.mark.parametrize(("length", "status"), [("400001", 413), ("9" * 19, 413), ("9" * 30, 400)])
def test_declared_body_that_is_too_large_is_refused_before_it_is_sent(url, length, status):
    with RawConnection(url) as connection:
        connection.send(head("/predict_file", f"Content-Length: {length}", "Expect: 100-continue"))
        assert connection.read_response().status_code == status


@pytest.mark.parametrize(("path", "length", "status"), [("/predict", 17_000_000, 413), ("/evaluate", 17_000_000, 100)])
def test_declared_json_that_is_too_large_is_refused_before_it_is_sent(service, path, length, status):
    with RawConnection(service.url) as connection:  # what is sent to /evaluate may be a file
        connection.send(
            head(path, f"Content-Length: {length}", "Content-Type: application/json", "Expect: 100-continue")
        )
        assert connection.read_response().status_code == status


def test_uncompressed_archive_may_be_as_large_as_any_body(url):
    content = npz_bytes({"images": galaxies(GRIZ, 40)})
    assert MAX_BODY_BYTES / 2 < len(content) < MAX_BODY_BYTES
    assert len(post(url, "/predict_file", content).json()["z_mean"]) == 40


@pytest.mark.parametrize("framing", ["Content-Length: 20000", "Transfer-Encoding: chunked"])
def test_body_that_does_not_arrive_in_time(url, framing):
    with RawConnection(url) as connection:
        begin = time.monotonic()
        connection.send(head("/predict_file", framing))
        check_error(connection.read_response(), 408, "the body did not arrive in time: 0 bytes in 2 s")
        assert 1.9 < time.monotonic() - begin < 5
        assert connection.is_closed()


def test_too_many_requests_in_flight(url):
    evaluation = npz_bytes({"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)})
    with ThreadPoolExecutor(MAX_IN_FLIGHT) as threads:
        slow = [threads.submit(post, url, "/evaluate", evaluation, accept="text/html") for _ in range(MAX_IN_FLIGHT)]
        wait_for(lambda: metric(url, "photoz_requests_in_flight") == MAX_IN_FLIGHT)
        refused = post(url, "/predict_file", CUTOUT)
        check_error(refused, 429, "2 requests are in flight already; try again later")
        assert refused.headers["retry-after"] == "1"
        with RawConnection(url) as connection:  # the response comes after the body, and other requests after it
            request = head("/predict_file", f"Content-Length: {len(CUTOUT)}", "X-Request-Id: mine") + CUTOUT
            connection.send(request[:3000])
            connection.send(request[3000:] + request + head("/livez", method="GET"))
            response = connection.read_response()
            assert (response.status_code, response.headers["x-request-id"]) == (429, "mine")
            assert connection.read_response().status_code in {429, 200}  # the evaluations may have ended
            assert connection.read_response().status_code == 200
        assert httpx.get(f"{url}/readyz").status_code == 200
        assert [one.result().status_code for one in slow] == [200] * MAX_IN_FLIGHT
    assert post(url, "/predict_file", CUTOUT).status_code == 200


def test_slow_uploads_do_not_count_as_in_flight(url):
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(RawConnection(url))
            connection.send(head("/predict_file", "Content-Length: 8000") + b"\x93NUMPY")
        assert post(url, "/predict_file", CUTOUT).status_code == 200


def test_uploads_share_a_memory_budget(url):
    """While others hold it, small bodies are taken, and a large one as soon as the time of the others is up."""
    with ExitStack() as stack:
        for _ in range(8):  # nearly all of the budget but the last eighth, which is kept for other clients
            connection = stack.enter_context(RawConnection(url))
            connection.send(head("/predict_file", f"Content-Length: {MAX_BODY_BYTES}"))
        wait_for(lambda: metric(url, "photoz_request_memory_bytes") == 8 * MAX_BODY_BYTES, 5)
        large = bytes(MAX_BODY_BYTES)
        check_error(post(url, "/predict_file", large), 429, "other requests hold all memory; try again in a second")
        assert post(url, "/predict_file", CUTOUT).status_code == 200
        assert httpx.get(f"{url}/readyz").status_code == 200
        wait_for(lambda: post(url, "/predict_file", large).status_code == 400)  # it arrived, and is no file


def test_all_memory_is_released(url):
    names = ("photoz_request_memory_bytes", "photoz_requests_in_flight", "photoz_queue_rows")
    wait_for(lambda: not any(metric(url, name) for name in names))
