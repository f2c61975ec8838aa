"""deploy/nginx/photoz.conf in front of a service: requests, answers, errors, restarts, slow and silent clients."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
import numpy as np
import psutil
import pytest

from photoz.grid import RedshiftGrid
from photoz.io.npz import npz_bytes
from tests.deploy.nginx import MIB, NGINX, recording_server, running_nginx
from tests.running import free_port, running_service
from tests.service.helpers import PATIENCE, check_error, metric, post, suspended_evaluations, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian's package nginx-light)")

CUTOUT = npy_bytes(galaxies(GRIZ, 1))
POST = head("/predict_file", f"Content-Length: {len(CUTOUT)}") + CUTOUT
LARGE = npz_bytes({"images": galaxies(GRIZ, 700)})
EVALUATION = npz_bytes({"pdfs": np.ones((9, 300)), "z_spec": np.linspace(0.01, 0.5, 9)})
HALF_HEAD = head("/model", "X-Junk: " + 30_000 * "a", method="GET")[:-4]


LIMITS = {"PHOTOZ_MAX_BODY_BYTES": 8 * MIB, "PHOTOZ_HEADER_TIMEOUT": 600}


@pytest.fixture(scope="module")
def bare(make_toy_bundle, tmp_path_factory):
    """Run the service, with 300 bins for long answers."""
    limits = LIMITS | {"PHOTOZ_MAX_MEMORY_BYTES": 64 * MIB}
    bundle = make_toy_bundle(grid=RedshiftGrid(0.6, 300)).path
    with running_service(tmp_path_factory.mktemp("service"), PHOTOZ_BUNDLE=bundle, **limits) as running:
        yield running
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def start_nginx(bare, tmp_path_factory):
    """Return a function that runs nginx in front of the service or of another port; its log has to stay clean."""

    @contextmanager
    def start(port=bare.port, **variables):
        patient = LIMITS | {"NGINX_IDLE_TIMEOUT": 600}
        with running_nginx(tmp_path_factory.mktemp("nginx"), port, **patient | variables) as nginx:
            yield nginx
        assert not re.search(r"\[(alert|crit)\]", nginx.log.read_text())

    return start


@pytest.fixture(scope="module")
def nginx(start_nginx):
    with start_nginx() as nginx:
        yield nginx


GOOD = {
    "head": ("HEAD", "/docs.json", None, {}),
    "large": ("POST", "/predict_file?pdf=true", LARGE, {}),
    "npz": ("POST", "/predict_file", CUTOUT, {"accept": "application/x-npz"}),
    "chunks": ("POST", "/predict_file", [CUTOUT[:5000], CUTOUT[5000:]], {}),
    "path": ("GET", "/a%20b//../c?d=%2F", None, {}),
}
CHANGED = {"date", "server", "connection", "transfer-encoding"}


@pytest.mark.parametrize(("method", "path", "content", "headers"), GOOD.values(), ids=GOOD)
def test_requests_and_answers_pass_unchanged(bare, nginx, method, path, content, headers):
    def send(url):
        body = iter(content) if isinstance(content, list) else content
        sent = headers | {"x-request-id": "mine"}
        answer = httpx.request(method, url + path, content=body, headers=sent, timeout=PATIENCE)
        kept = sorted(item for item in answer.headers.items() if item[0] not in CHANGED)
        return answer.status_code, answer.content, kept

    assert send(nginx.url) == send(bare.url)


def test_versions_and_framings_of_http(nginx):
    with RawConnection(nginx.url) as connection:
        connection.send(POST * 3)  # pipelined
        expected = connection.read_response().json()
        assert [connection.read_response().json() for _ in range(2)] == [expected] * 2
        connection.send(head("/predict_file", f"Content-Length: {len(CUTOUT)}", "Expect: 100-continue"))
        assert connection.read_response().status_code == 100
        connection.send(CUTOUT)
        assert connection.read_response().json() == expected
    for last in (POST.replace(b"Host:", b"Connection: close\r\nHost:"), POST.replace(b"HTTP/1.1", b"HTTP/1.0")):
        with RawConnection(nginx.url) as connection:
            connection.send(last)
            assert connection.read_response().json() == expected
            assert connection.is_closed()


TOO_LARGE, TOO_LONG = "headers of at most 32,768 bytes, got more", "a body of at most 8388608 bytes, got more"
CHUNKED = "Transfer-Encoding: chunked"
REFUSED = {
    "header": (head("/model", "X-Junk: " + "a" * 33_000), 431, TOO_LARGE),
    "request line": (head("/model?" + "a" * 33_000), 431, TOO_LARGE),
    "length": (head("/predict_file", f"Content-Length: {8 * MIB + 1}"), 413, TOO_LONG),
    "large chunk": (head("/predict_file", CHUNKED) + b"800001\r\na", 413, TOO_LONG),
    "two hosts": (head("/model", "Host: other"), 400, "not valid HTTP/1.1"),
    "two framings": (head("/predict_file", "Content-Length: 6", CHUNKED) + b"0\r\n\r\n", 400, "not valid HTTP/1.1"),
    "encoding": (head("/predict_file", "Transfer-Encoding: gzip"), 501, "expected no Transfer-Encoding but chunked"),
    "HTTP/2": (b"POST /model HTTP/2.0\r\nHost: service\r\n\r\n", 505, "expected HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "not valid HTTP/1.1"),
    "its own path": (head("/photoz-error"), 404, "no such path"),
}


@pytest.fixture(scope="module")
def recorded(start_nginx):
    """Run nginx in front of a server that records requests; return its address and them."""
    port = free_port()
    with start_nginx(port) as nginx, recording_server(port) as requests:
        yield nginx.url, requests


@pytest.mark.parametrize(("content", "status", "message"), REFUSED.values(), ids=REFUSED)
def test_errors_of_nginx_have_the_one_shape_and_do_not_reach_the_service(recorded, content, status, message):
    url, requests = recorded
    before = len(requests)
    with RawConnection(url) as connection:
        connection.send(content)
        check_error(connection.read_response(), status, message)
    assert len(requests) == before


def test_large_bodies_are_refused(nginx):
    """If the service closed the connection before it has read the body, nginx would often answer 502."""
    for _ in range(5):
        refused = post(nginx.url, "/predict", bytes(7 * MIB), content_type="application/vnd.bentoml+pickle")
        assert refused.status_code == 415
        check_error(post(nginx.url, "/predict_file", bytes(9 * MIB)), 413, TOO_LONG)


def test_requests_of_one_address_are_limited(start_nginx):
    with start_nginx(NGINX_CONNECTIONS=1) as nginx, RawConnection(nginx.url) as slow:
        slow.send(POST[:-1])
        wait_for(lambda: post(nginx.url, "/predict_file", CUTOUT).status_code == 429)
        refused = post(nginx.url, "/predict_file", CUTOUT)
        check_error(refused, 429, "too many requests are in flight: try again")
        assert refused.headers["retry-after"] == "1"
        slow.send(POST[-1:])
        assert slow.read_response().status_code == 200
        assert post(nginx.url, "/predict_file", CUTOUT).status_code == 200


def test_reload_loses_nothing(nginx):
    def workers():
        return {child.pid for child in psutil.Process(nginx.process.pid).children()}

    with RawConnection(nginx.url) as connection, ThreadPoolExecutor(4) as threads:
        connection.send(POST[:-100])
        before = workers()
        answers = [threads.submit(post, nginx.url, "/predict_file", CUTOUT) for _ in range(100)]
        nginx.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(workers() - before) == 2)
        assert {answer.result().status_code for answer in answers} == {200}
        connection.send(POST[-100:])  # its worker waits for it
        response = connection.read_response()
        assert (response.status_code, response.headers["connection"]) == (200, "close")


def test_service_gets_the_headers_of_nginx_and_may_restart(start_nginx):
    port, forged = (
        free_port(),
        {"x-forwarded-for": "192.0.2.1", "x-request-id": "mine", "host": "photoz.example.org:81"},
    )
    with start_nginx(port) as nginx:
        for _ in range(2):
            stopped = post(nginx.url, "/", b"1")
            check_error(stopped, 502, "the service does not answer: try again")
            assert stopped.headers["retry-after"] == "2"
            with recording_server(port) as requests:
                for headers in (forged, {"x-request-id": 'a"b'}, {}):
                    assert post(nginx.url, "/", b"1", **headers).status_code == 200
    first, second, _ = (headers for headers, _ in requests)
    assert first.get_all("x-forwarded-for") == ["127.0.0.1"]
    assert (first["x-request-id"], first["host"]) == ("mine", "photoz.example.org:81")
    assert "connection" not in first  # it is used again
    assert len(second["x-request-id"]) == 32


def test_slow_and_idle_clients_leave_the_service_to_others(bare, nginx):
    (worker,) = bare.workers
    files = worker.num_fds()
    with ExitStack() as stack:
        for begin in [b"", HALF_HEAD] * 300:
            stack.enter_context(RawConnection(nginx.url)).send(begin)
        slow = [stack.enter_context(RawConnection(nginx.url)) for _ in range(40)]
        for upload in slow:  # 80 MiB in all, more than the memory of the service
            upload.send(head("/predict_file", f"Content-Length: {3 * MIB}") + bytes(2 * MIB))
        assert worker.num_fds() <= files + 1
        assert len(LARGE) > 5 * MIB
        assert post(nginx.url, "/predict_file", LARGE).status_code == 200
        wait_for(lambda: metric(bare.url, "photoz_request_memory_bytes") == 0)
        slow[0].send(bytes(MIB))
        check_error(slow[0].read_response(), 400, "expected a .npy, .npz, FITS or HDF5 file")  # it arrived


def test_slow_clients_are_disconnected(start_nginx):
    with start_nginx(NGINX_IDLE_TIMEOUT=1, PHOTOZ_HEADER_TIMEOUT=1) as nginx:
        for begin in (HALF_HEAD, POST[:-1]):
            with RawConnection(nginx.url) as connection, suppress(OSError):  # it was closed already
                connection.send(begin)
                assert connection.is_closed()


def test_answers_that_are_not_read_do_not_hold_the_service(bare, nginx):
    with RawConnection(nginx.url, receive_buffer=4096) as connection:
        done = metric(bare.url, "photoz_requests_total", route="/predict_file", status="200")
        connection.send(head("/predict_file?pdf=true", f"Content-Length: {len(LARGE)}") + LARGE)
        wait_for(lambda: metric(bare.url, "photoz_requests_total", route="/predict_file", status="200") > done)
        wait_for(lambda: metric(bare.url, "photoz_request_memory_bytes") == 0)
        assert metric(bare.url, "photoz_requests_in_flight") == 0
        assert np.shape(connection.read_response().json()["pdf"]) == (700, 300)


@pytest.mark.parametrize("behind", [b"", head("/model", method="GET")], ids=["nothing", "a request"])
def test_work_for_a_client_that_has_gone_is_ended(bare, nginx, behind):
    ended = {"route": "/evaluate", "status": "499"}
    before = metric(bare.url, "photoz_requests_total", **ended)
    with suspended_evaluations(bare, EVALUATION):
        with RawConnection(nginx.url) as connection:
            connection.send(head("/evaluate", f"Content-Length: {len(EVALUATION)}") + EVALUATION + behind)
            wait_for(lambda: metric(bare.url, "photoz_requests_in_flight") == 1)
        wait_for(lambda: metric(bare.url, "photoz_requests_total", **ended) == before + 1)
