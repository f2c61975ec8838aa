"""A hostile server: answers without end, bombs, slow bodies, columns of other kinds, and escapes in every text."""

import gzip
import itertools
import json
import re
import socketserver
import threading
import time
import tracemalloc
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from photoz import estimates
from photoz.grid import SDSS_GRID
from photoz.metrics import Score
from photoz_client import PhotozClient, PhotozClientError, Retries, TimedOut, UnexpectedResponse
from tests.client import answers
from tests.client.answers import error, mock_client, model_index, naming, numbered_cutouts, with_card
from tests.client.server import asynchronous, blocking, serve

ESCAPES = "\x1b]0;owned\x07\x9b31m\x7f\x08\r\nowned \u202e"
ESCAPED = r"\x1b]0;owned\x07\x9b31m\x7f\x08\r\nowned \u202e"
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|^owned", re.MULTILINE)

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ONCE = Retries(attempts=1)


@contextmanager
def raw_server(answer):
    """Serve on a socket: `answer` yields the bytes of the response to a path."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            head = list(iter(lambda: self.rfile.readline().strip().lower(), b""))
            length = next((int(line.split()[1]) for line in head if line.startswith(b"content-length")), 0)
            self.rfile.read(length)
            try:
                for part in answer(head[0].split()[1].decode()):
                    self.wfile.write(part)
            except OSError:
                pass  # the client has closed the connection

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def endless(head, part=b" " * 2**16):
    return itertools.chain([head + b"\r\n"], itertools.repeat(part))


def index_or(rest):
    """Name the model, and answer everything else with the parts that `rest` returns."""
    index = model_index()
    head = JSON + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(index.content)
    return lambda path: [head, index.content] if path == answers.INDEX_PATH else rest()


def predict_in(predict):
    return lambda url, **options: predict(url, np.ones((1, 8, 8, 2), np.float32), retries=ONCE, **options)


def call(url, method, *arguments):
    with PhotozClient(url, retries=ONCE) as client:
        return getattr(client, method)(*arguments)


CALLS = {"model": (), "predict": (np.ones((1, 8, 8, 2)),), "evaluate": ([0.1],), "wait_until_ready": (5.0,)}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"503 Service Unavailable"])
def test_an_answer_without_end_is_read_up_to_a_limit(name, status):
    with raw_server(lambda path: endless(JSON.replace(b"200 OK", status))) as url:
        tracemalloc.start()
        try:
            with pytest.raises(UnexpectedResponse, match=f"{url}/.* answered with more than 1,0.. ?.*bytes"):
                call(url, name, *CALLS[name])
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("predict", [blocking, asynchronous])
def test_estimates_without_end_are_read_up_to_a_limit_for_their_number(predict):
    octets = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    for pdf, most in ((False, "1,048,752"), (True, "1,179,824")):
        with (
            raw_server(index_or(lambda: endless(octets))) as url,
            pytest.raises(UnexpectedResponse, match=f"infer answered with more than {most} bytes"),
        ):
            predict_in(predict)(url, pdf=pdf)
    chunks = itertools.chain(
        [octets + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat((b"10\r\n" + b" " * 16 + b"\r\n") * 2**10)
    )
    with (
        raw_server(index_or(lambda: chunks)) as url,
        pytest.raises(UnexpectedResponse, match="more than 1,048,752 bytes"),
    ):
        predict_in(predict)(url)


def test_a_report_and_a_plot_have_a_limit_of_their_own():
    html = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
    with (
        raw_server(lambda path: endless(html, b" " * 2**22)) as url,
        pytest.raises(UnexpectedResponse, match="more than 67,108,864 bytes"),
    ):
        call(url, "evaluate_report", [0.1])
    page = httpx.Response(200, content=b"<p>\xff", headers={"content-type": "text/html"})
    assert mock_client(lambda request: page).evaluate_report([0.1]) == "<p>\ufffd"


@pytest.mark.parametrize("predict", [blocking, asynchronous])
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate", "br", "zstd", "\x9b"])
def test_an_encoded_body_is_refused_before_it_is_decoded(predict, encoding):
    bomb = gzip.compress(bytes(2**24))
    head = JSON + b"Content-Encoding: %b\r\nContent-Length: %d\r\n" % (encoding.encode(), len(bomb))
    with (
        raw_server(index_or(lambda: [head + b"\r\n", bomb])) as url,
        pytest.raises(UnexpectedResponse, match=r"answered with Content-Encoding .*, not identity") as caught,
    ):
        predict_in(predict)(url)
    assert not OBEYED.search(str(caught.value))


def test_no_encoding_is_asked_for(card):
    asked = []

    def behave(request):
        asked.append(request.headers["accept-encoding"])
        return with_card(card)(request)

    with serve(behave) as server:
        call(server.url, "model")
        blocking(server.url, numbered_cutouts(1))
    assert asked == ["identity"] * 2


@pytest.mark.parametrize("predict", [blocking, asynchronous])
def test_a_body_that_drips_ends_at_the_timeout(predict):
    def drip():
        yield JSON + b"\r\n"
        for _ in range(100):
            yield b" "
            time.sleep(0.05)

    with raw_server(index_or(drip)) as url, pytest.raises(TimedOut, match=r"was not complete after 0\.3 s, the client"):
        predict_in(predict)(url, timeout=0.3)


COLUMNS = {
    "z_mean": [np.zeros((1, 3)), np.zeros(1, np.int32), np.array(["a"]), np.zeros(2), np.zeros(())],
    "flags": [np.zeros(1), np.zeros(1, np.uint64), np.array([ESCAPES])],
    "pdf": [np.zeros((1, 179)), np.zeros(1), np.zeros((1, 180, 2)), np.zeros((1, 180), np.int8), np.array([["a"]])],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_another_kind_or_shape_are_refused(name):
    good = dict(estimates.from_pdfs(np.eye(180)[:1], SDSS_GRID, include_pdf=True).columns())
    for values in COLUMNS[name]:
        answer = answers.prediction_columns(good | {name: values})
        with pytest.raises(UnexpectedResponse, match=f"answered 1 cutout with {name} as "):
            mock_client(naming(lambda request, answer=answer: answer)).predict(numbered_cutouts(1), pdf=True)


NAMES = [7, None, "", "a/b", ESCAPES, "a" * 201, "\ud800"]


@pytest.mark.parametrize("name", NAMES, ids=map(repr, NAMES))
def test_a_name_that_no_model_has_is_refused(name):
    content = json.dumps([{"name": name}]).encode()
    answer = httpx.Response(200, content=content, headers={"content-type": "application/json"})
    with pytest.raises(UnexpectedResponse, match="answered without the name of one model"):
        mock_client(lambda request: answer).predict(numbered_cutouts(1))


def test_json_nested_too_deeply_is_no_message():
    deep = b"[" * 100_000
    for status, message in ((200, "answered without the name of one model"), (400, "answered 400 Bad Request")):
        answer = httpx.Response(status, content=deep, headers={"content-type": "application/json"})
        with pytest.raises(UnexpectedResponse, match=message):
            mock_client(lambda request, answer=answer: answer).predict(numbered_cutouts(1))


def test_texts_of_the_service_are_escaped_and_short_in_errors_and_results(predict):
    for status in (400, 401, 403, 404, 408, 413, 429, 500, 503, 504):
        answer = error(status, ESCAPES + "a" * 10**5)
        with serve(lambda request, answer=answer: answer) as server, pytest.raises(PhotozClientError) as caught:
            predict(server.url, numbered_cutouts(1), retries=ONCE)
        text = str(caught.value)
        assert ESCAPED in text
        assert (OBEYED.search(text), len(text) < 1500) == (None, True)
        assert not OBEYED.search(getattr(caught.value, "message", ""))
    head = JSON.replace(b"application/json", b"\x9b31m") + b"\r\n"
    with raw_server(lambda path: [head]) as url, pytest.raises(UnexpectedResponse, match=r"with \\x9b31m, not app"):
        call(url, "model")

    def named(request):
        answer = answers.prediction(request)
        headers = [(key, b"\x9b31m" if key == b"x-photoz-model" else value) for key, value in answer.headers.raw]
        return httpx.Response(200, content=answer.content, headers=headers)

    assert mock_client(naming(named)).predict(numbered_cutouts(1)).model == r"\x9b31m"
    evaluation = answers.EVALUATION.model_copy(update={"model": ESCAPES, "scores": {ESCAPES: Score(0.0, 0.0)}})
    assert repr(evaluation).count(ESCAPED) == 2
    assert not OBEYED.search(repr(evaluation))


def test_a_card_of_other_fields_is_described_in_a_line():
    content = json.dumps({ESCAPES: 1} | {str(n): n for n in range(10_000)}).encode()
    answer = httpx.Response(200, content=content, headers={"content-type": "application/json"})
    with pytest.raises(UnexpectedResponse) as caught:
        mock_client(lambda request: answer).model()
    assert (OBEYED.search(str(caught.value)), len(str(caught.value)) < 200) == (None, True)


def test_commands_print_no_escapes_of_a_service_or_file(photoz, card, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = card.training.model_copy(update={"data": ESCAPES})
    changes = {"training": training, "caveats": (ESCAPES,), "licence": ESCAPES}
    evaluation = answers.EVALUATION.model_copy(update={"model": ESCAPES, "dropped": [ESCAPES]})
    monkeypatch.setitem(answers.EVALUATIONS, "application/json", evaluation.model_dump_json().encode())
    columns = {
        "images": numbered_cutouts(2),
        "object_id": [ESCAPES, "b"],
        "split": ["a", ESCAPES],
        "z_spec": [0.1, 0.2],
    }
    name = f"a{ESCAPES}.npz"
    np.savez(name, **columns)
    with serve(with_card(card, **changes)) as server:
        url = ("--url", server.url)
        for n_lines, arguments in (
            (3, ("predict", name, *url)),
            (None, ("predict", name, "--json", *url)),
            (None, ("predict", name, "-o", f"out{ESCAPES}.csv", *url)),
            (None, ("predict", name, "--split", "test", *url)),
            (3, ("evaluate", name, *url)),
            (None, ("evaluate", name, "--json", *url)),
            (None, ("inspect", name, "--bands", "gr")),
            (None, ("model", *url)),
            (None, ("model", "--json", *url)),
            (None, ("compare", server.url, server.url, name)),
            (None, ("compare", server.url, server.url, name, "--json")),
            (None, ("predict", f"missing{ESCAPES}", *url)),
            (None, ("predict", "-" + ESCAPES, *url)),
            (None, ("predict", name, "--bands", ESCAPES, *url)),
            (None, (ESCAPES,)),
        ):
            _, out, err = photoz(*arguments)
            assert not OBEYED.search(out + err), (arguments, out, err)
            assert n_lines is None or out.count("\n") == n_lines
            if "--json" in arguments:
                json.loads(out)
        assert json.loads(photoz("model", "--json", *url)[1])["licence"] == ESCAPES
