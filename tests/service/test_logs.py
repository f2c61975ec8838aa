"""The log, with the id of its request in each line of JSON; the steps of a request, and their traces."""

import asyncio
import gc
import json
import logging
import re
import sys
import threading
import weakref
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from photoz.errors import TooLarge
from service import logs, steps
from service.logs import JsonFormatter, TextFormatter
from service.request import CURRENT_REQUEST
from service.settings import Settings
from service.tracing import tracing_options
from tests.deploy.nginx import recording_server
from tests.running import free_port, running_service
from tests.service.helpers import PATIENCE, post, wait_for
from tests.service.requests import make_request
from tests.toys import GRIZ, galaxies, npy_bytes


def log_of(service, request_id):
    """Wait for the line of a request."""
    wait_for(lambda: f'"request_id": "{request_id}"' in service.log.read_text())
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]  # all of them are JSON
    (line,) = [line for line in lines if line.get("request_id") == request_id]
    return line


def test_request_has_a_line_with_its_id(client, post_npy, card, service):
    cutouts = galaxies(card.image, 3)
    response = post_npy("/predict_file", cutouts, **{"x-request-id": "night-1"})
    assert response.headers["x-request-id"] == "night-1"
    line = log_of(service, "night-1")
    expected = {"level": "info", "method": "POST", "path": "/predict_file", "status": 200, "rows": 3}
    assert {name: line[name] for name in expected} == expected
    assert 0 < line["seconds"] < 600
    assert cutouts.nbytes < line["received_bytes"] < cutouts.nbytes + 1000
    assert "key" not in line
    start = f'"message": "serving {card.name} {card.version} with openvino-'
    assert service.log.read_text().count(start) == 1


def test_paths_are_cut_and_cannot_break_a_line(client, service):
    client.get("/a%0A%7B%22level%22:%22error%22%7D%0Db%1b[31m", headers={"x-request-id": "breaking"})
    client.get("/" + "a" * 5000, headers={"x-request-id": "long"})
    broken, long = log_of(service, "breaking"), log_of(service, "long")
    assert (broken["path"], broken["status"]) == ('/a\n{"level":"error"}\rb\x1b[31m', 404)
    assert (long["path"], len(long["message"])) == ("/" + "a" * 496 + "...", 500)


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch):
    gate, written = threading.Event(), []
    stream = SimpleNamespace(write=lambda text: gate.wait(PATIENCE) and written.append(text), flush=lambda: None)
    monkeypatch.setattr(logs, "MAX_WAITING", 10)
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logs.DroppingHandler(TextFormatter())
    for _ in range(200):
        handler.handle(logging.LogRecord("unread", logging.ERROR, "", 1, "text", (), None))
    assert handler.dropped in (189, 190)  # one is being written, perhaps
    gate.set()
    wait_for(lambda: not handler.queue.unfinished_tasks)
    assert "".join(written).count("ERROR text\n") == 200 - handler.dropped


def test_all_loggers_write_in_one_format(monkeypatch):
    owners, captured = [logging.getLogger(name) for name in logs.LOGGERS], []
    for owner, field in product(owners, ("handlers", "propagate", "level")):
        monkeypatch.setattr(owner, field, getattr(owner, field))  # as before, after the test
    monkeypatch.setattr(logs, "_handler", None)
    monkeypatch.setattr(logging, "captureWarnings", captured.append)
    assert logs.dropped_lines() == 0
    for log_format, formatter in (("json", JsonFormatter), ("text", TextFormatter)):
        logs.configure(log_format)
        (handler,) = {handler for owner in owners for handler in owner.handlers}
        assert (type(handler.formatter), captured.pop()) == (formatter, True)
        assert not any(owner.propagate for owner in owners)
        assert [owner.level for owner in owners[1:]] == [logging.INFO, logging.ERROR, logging.ERROR]
    handler.dropped = 3
    assert logs.dropped_lines() == 3


def test_formats_of_an_error():
    token = CURRENT_REQUEST.set(make_request(b"", x_request_id="id-1"))
    try:
        raise ValueError("what went wrong")
    except ValueError:
        record = logging.LogRecord("bentoml.photoz", logging.ERROR, "", 1, "%r failed", ("/\x1b[\n",), sys.exc_info())
    as_json, as_text = JsonFormatter().format(record), TextFormatter().format(record)
    CURRENT_REQUEST.reset(token)
    line = json.loads(as_json)
    assert "\n" not in as_json
    assert (line["level"], line["request_id"], line["logger"]) == ("error", "id-1", "bentoml.photoz")
    assert "ValueError: what went wrong" in line["exception"]
    first, *traceback = as_text.splitlines()
    assert first.endswith(r"ERROR '/\x1b[\n' failed (request id-1)")
    assert traceback[-1] == "ValueError: what went wrong"
    assert "request" not in TextFormatter().format(record).splitlines()[0]


TOO_LITTLE = "0.75 GB of memory are available, up to 0.75 GB needed: the system may kill the worker at any time "
MISSPELT = "PHOTOZ_MAX_ROW is not a setting and is ignored; did you mean PHOTOZ_MAX_ROWS?"


@pytest.mark.parametrize(
    ("memory", "n_keys", "keys", "warnings"),
    [
        (750e6, None, "no API key needed", []),
        (749e6, 1, "1 API keys", [f"{TOO_LITTLE}(docs/operations.md#size)"]),
        (750e6, 0, "0 API keys", ["keys.txt holds no key: all requests are refused"]),
    ],
)
def test_start_is_logged_with_warnings(caplog, monkeypatch, memory, n_keys, keys, warnings):
    settings = Settings(max_memory_bytes=100_000_000, api_keys_file="keys.txt", threads=2, engine="keras")
    monkeypatch.setattr(logs.logger, "propagate", True)
    caplog.set_level(logging.INFO, logs.logger.name)
    monkeypatch.setattr("service.logs.available_memory", lambda: memory)
    monkeypatch.setenv("PHOTOZ_MAX_ROW", "1")
    logs.log_start("toy 1", settings, n_keys)
    start, *others = caplog.messages
    assert start == f"serving toy 1 with keras, threads: 2, memory for bodies: 95 MiB, {keys}"
    assert set(others) == {MISSPELT, *warnings}


TRACE, PARENT = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bytes.fromhex("00f067aa0ba902b7")


@pytest.mark.acceptance
def test_request_is_traced_with_its_parts(make_toy_bundle, tmp_path):
    port = free_port()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": 100}
    headers = {"traceparent": f"00-{TRACE.hex()}-{PARENT.hex()}-01", "x-request-id": "traced"}
    with (
        recording_server(port) as received,
        running_service(tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path, **variables) as running,
    ):
        post(running.url, f"/{'x' * 5_000}", b"", **{"user-agent": "y" * 5_000})
        post(running.url, "/predict_file", npy_bytes(galaxies(GRIZ, 3)), **headers)
        wait_for(lambda: PARENT in b"".join(body for _, body in received))  # the whole ends last, and alone names it
        spans = b"".join(body for _, body in received)
    assert {word for word in (b"decode", b"predict", b"encode", b"traced", TRACE) if word not in spans} == set()
    assert {char * 200 in spans for char in (b"x", b"y")} == {True}
    assert not re.findall(rb"x{501}|y{501}", spans)


@pytest.mark.parametrize(("size", "in_thread"), [(256 * 1024, False), (256 * 1024 + 1, True)])
def test_step_is_traced_and_leaves_the_event_loop_if_it_is_large(monkeypatch, size, in_thread):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans := InMemorySpanExporter()))
    monkeypatch.setattr(steps, "_tracer", lambda: provider.get_tracer("photoz"))
    request = make_request(b"", x_request_id="traced")
    request.rows = 3

    async def run():
        CURRENT_REQUEST.set(request)
        return await steps.run_step("decode", size, lambda add: threading.get_ident() + add, 1) - 1

    assert (asyncio.run(run()) != threading.get_ident()) == in_thread
    (span,) = spans.get_finished_spans()
    assert (span.name, dict(span.attributes)) == ("decode", {"request_id": "traced", "rows": 3})


def test_nothing_of_a_refused_request_is_kept():
    class Array(np.ndarray):
        """An array that can be referred to weakly."""

    def refuse(arrays):
        raise TooLarge("too many")

    async def offload():
        arrays = {"pdfs": Array((1000,))}
        held = weakref.ref(arrays["pdfs"])
        with pytest.raises(TooLarge):
            await steps.offload(refuse, arrays)
        return held

    gc.disable()  # which would find it some time, when many such arrays have filled the memory
    try:
        held = asyncio.run(offload())
        wait_for(lambda: held() is None)  # the thread may still return from the call
    finally:
        gc.enable()


def test_tracing_options():
    assert tracing_options({}) == {"excluded_urls": "."}  # no request is considered
    probes = "livez,healthz,readyz,v2/health,metrics"
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        for given, rate in ((None, 1.0), ("0", 0.0), ("0.1", 0.1), ("1", 1.0)):
            environment = {name: "http://collector:4318"} | ({"OTEL_TRACES_SAMPLER_ARG": given} if given else {})
            expected = {"exporter_type": "otlp", "sample_rate": rate, "otlp": {"protocol": "http"}}
            assert tracing_options(environment) == expected | {"excluded_urls": probes}
