"""deploy/nginx/photoz.conf in front of a service: requests, answers, errors, restarts."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from photoz.io.npz import npz_bytes
from tests.deploy.nginx import MIB, needs_nginx, recording_server, running_nginx
from tests.running import free_port
from tests.service.helpers import check_error, metric, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

pytestmark = needs_nginx

CUTOUT = npy_bytes(galaxies(GRIZ, 1))
POST = head("/predict_file", f"Content-Length: {len(CUTOUT)}") + CUTOUT
SCORED = npz_bytes({"pdfs": np.ones((9, 300)), "z_spec": np.linspace(0.01, 0.5, 9)})


@pytest.fixture
def connection(nginx):
    with RawConnection(nginx.url) as connection:
        yield connection


TENSOR = {"name": "images", "datatype": "FP32", "shape": [1, *GRIZ.shape], "data": galaxies(GRIZ, 1).ravel().tolist()}
GOOD = {
    "model": ("GET", "/model", None, {}),
    "page": ("GET", "/ui", None, {}),
    "head": ("HEAD", "/docs.json", None, {}),
    "large": ("POST", "/predict_file?pdf=true", npz_bytes({"images": galaxies(GRIZ, 700)}), {}),
    "npz": ("POST", "/predict_file", CUTOUT, {"accept": "application/x-npz"}),
    "chunks": ("POST", "/predict_file", [CUTOUT[:5000], CUTOUT[5000:]], {}),
    "JSON": ("POST", "/predict", json.dumps({"images": galaxies(GRIZ, 2).tolist()}).encode(), {}),
    "tensors": ("POST", "/v2/models/toy/infer", json.dumps({"inputs": [TENSOR]}).encode(), {}),
    "scores": ("POST", "/evaluate", SCORED, {}),
    "path": ("GET", "/a%20b//../c?d=%2F", None, {}),
    "method": ("DELETE", "/model", None, {}),
    "no file": ("POST", "/predict_file", b"nothing", {}),
}
CHANGED = {"date", "server", "connection", "transfer-encoding"}


@pytest.mark.parametrize(("method", "path", "content", "headers"), GOOD.values(), ids=GOOD)
def test_requests_and_answers_pass_unchanged(bare, nginx, method, path, content, headers):
    def send(url):
        body = iter(content) if isinstance(content, list) else content
        sent = headers | {"x-request-id": "mine"}
        answer = httpx.request(method, url + path, content=body, headers=sent, timeout=60.0)
        return answer.status_code, answer.content, [item for item in answer.headers.items() if item[0] not in CHANGED]

    (status, content, headers), expected = send(nginx.url), send(bare.url)
    assert (status, content, sorted(headers)) == (*expected[:2], sorted(expected[2]))


def test_large_body_that_is_refused_by_its_head(nginx):
    """If the service closed the connection before it has read the body, nginx would often answer 502."""
    pickle = {"content-type": "application/vnd.bentoml+pickle"}
    answers = [httpx.post(f"{nginx.url}/predict", content=bytes(7 * MIB), headers=pickle) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [415] * 8


def test_versions_and_framings_of_http(nginx, connection):
    connection.send(POST * 3)  # pipelined
    expected = connection.read_response().json()
    assert [connection.read_response().json() for _ in range(2)] == [expected] * 2
    connection.send(head("/predict_file", f"Content-Length: {len(CUTOUT)}", "Expect: 100-continue"))
    assert connection.read_response().status_code == 100
    connection.send(CUTOUT)
    assert connection.read_response().json() == expected
    connection.send(POST.replace(b"Host:", b"Connection: close\r\nHost:"))
    assert connection.read_response().json() == expected
    assert connection.is_closed()
    with RawConnection(nginx.url) as old:
        old.send(POST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert old.read_response().json() == expected
        assert old.is_closed()


TOO_LARGE, TOO_LONG = "headers of at most 32,768 bytes, got more", "a body of at most 8388608 bytes, got more"
MANY = [f"X-{number}: " + 99 * "a" for number in range(700)]
CHUNKED = "Transfer-Encoding: chunked"
REFUSED = {
    "header": (head("/model", "X-Junk: " + "a" * 33_000, method="GET"), 431, TOO_LARGE),
    "request line": (head("/model?" + "a" * 33_000, method="GET"), 431, TOO_LARGE),
    "many headers": (head("/model", *MANY, method="GET"), 431, TOO_LARGE),
    "length": (head("/predict_file", f"Content-Length: {8 * MIB + 1}"), 413, TOO_LONG),
    "large chunk": (head("/predict_file", CHUNKED) + b"800001\r\na", 413, TOO_LONG),
    "two hosts": (head("/model", "Host: other", method="GET"), 400, "not valid HTTP/1.1"),
    "two lengths": (head("/predict_file", "Content-Length: 3", "Content-Length: 4"), 400, "not valid HTTP/1.1"),
    "two framings": (head("/predict_file", "Content-Length: 6", CHUNKED) + b"0\r\n\r\n", 400, "not valid HTTP/1.1"),
    "no chunk": (head("/predict_file", CHUNKED) + b"zz\r\n", 400, "not valid HTTP/1.1"),
    "encoding": (head("/predict_file", "Transfer-Encoding: gzip"), 501, "expected no Transfer-Encoding but chunked"),
    "HTTP/2": (b"GET /model HTTP/2.0\r\nHost: service\r\n\r\n", 505, "expected HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "not valid HTTP/1.1"),
    "its own path": (head("/photoz-error", method="GET"), 404, "no such path"),
}


@pytest.mark.parametrize(("content", "status", "message"), REFUSED.values(), ids=REFUSED)
def test_errors_of_nginx_have_the_one_shape(bare, connection, content, status, message):
    before = metric(bare.url, "photoz_requests_total")
    connection.send(content)
    check_error(connection.read_response(), status, message)
    assert metric(bare.url, "photoz_requests_total") == before + 1  # the metrics themselves


def test_body_above_the_limit_is_refused_while_it_is_sent(nginx):
    answers = [httpx.post(f"{nginx.url}/predict_file", content=bytes(9 * MIB)) for _ in range(5)]
    for answer in answers:
        check_error(answer, 413, TOO_LONG)


def test_reload_loses_nothing(nginx, connection):
    connection.send(POST[:-100])
    before = nginx.workers
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(httpx.post, f"{nginx.url}/predict_file", content=CUTOUT) for _ in range(100)]
        nginx.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(nginx.workers - before) == 2)
        assert {answer.result().status_code for answer in answers} == {200}
    connection.send(POST[-100:])  # its worker waits for it
    response = connection.read_response()
    assert response.status_code == 200
    assert "close" in response.headers["connection"]


def test_service_that_restarts(tmp_path):
    port = free_port()
    with running_nginx(tmp_path, port) as nginx, httpx.Client(base_url=nginx.url) as client:
        for _ in range(2):
            stopped = client.post("/", content=b"1")
            check_error(stopped, 502, "the service does not answer: try again")
            assert stopped.headers["retry-after"] == "2"
            with recording_server(port):
                assert [client.post("/", content=b"1").status_code for _ in range(3)] == [200] * 3


def test_headers_that_the_service_gets(tmp_path):
    port = free_port()
    with running_nginx(tmp_path, port) as nginx, recording_server(port) as requests:
        forged = {"x-forwarded-for": "192.0.2.1", "x-request-id": "mine", "host": "photoz.example.org:81"}
        for headers in (forged, {"x-request-id": 'a"b'}):
            assert httpx.post(nginx.url, content=b"1", headers=headers).status_code == 200
    first, second = requests
    assert first.get_all("x-forwarded-for") == ["127.0.0.1"]
    assert (first["x-request-id"], first["host"]) == ("mine", "photoz.example.org:81")
    assert "connection" not in first  # it is used again
    assert len(second["x-request-id"]) == 32
