"""The log: one line of JSON for each event, with the id of its request."""

import json
import logging
from pathlib import Path

import httpx
import pytest
from running import running_service
from toys import GRIZ, galaxies, npy_bytes
from wires import wait_for

from service import logs
from service.edge.visit import CURRENT, Visit
from service.logs import JsonFormatter, TextFormatter
from service.settings import Settings


@pytest.fixture(scope="module")
def logged(make_toy_bundle, tmp_path_factory):
    """Run a service that logs every request."""
    variables = {"PHOTOZ_ACCESS_LOG": "on", "PHOTOZ_LOG_FORMAT": "json"}
    with running_service(
        tmp_path_factory.mktemp("logged"), PHOTOZ_BUNDLE=make_toy_bundle().path, **variables
    ) as running:
        yield running


def said(running):
    return [json.loads(line) for line in running.log.read_text().splitlines()]  # every one is JSON


def lines_of(running, request_id):
    return [line for line in said(running) if line.get("request_id") == request_id]


def test_a_request_gets_a_line_with_its_id(logged):
    answer = httpx.post(
        f"{logged.url}/predict_file", content=npy_bytes(galaxies(GRIZ, 3)), headers={"x-request-id": "night-1"}
    )
    assert answer.headers["x-request-id"] == "night-1"
    wait_for(lambda: lines_of(logged, "night-1"))
    (line,) = lines_of(logged, "night-1")
    assert {name: line[name] for name in ("level", "method", "path", "status", "rows")} == {
        "level": "info",
        "method": "POST",
        "path": "/predict_file",
        "status": 200,
        "rows": 3,
    }
    assert 0 < line["seconds"] < 60
    assert line["received"] > 3 * 23 * 23 * 4 * 4


def test_probes_get_none(logged):
    httpx.get(f"{logged.url}/readyz", headers={"x-request-id": "probe"})
    httpx.get(f"{logged.url}/model", headers={"x-request-id": "after"})
    wait_for(lambda: lines_of(logged, "after"))
    assert not lines_of(logged, "probe")


def test_errors_carry_the_id_too(logged):
    assert httpx.get(f"{logged.url}/nothing", headers={"x-request-id": "lost"}).headers["x-request-id"] == "lost"
    wait_for(lambda: lines_of(logged, "lost"))
    assert lines_of(logged, "lost")[0]["status"] == 404


def test_no_path_breaks_a_line(logged):
    path = "/a%0A%7B%22level%22:%22error%22%7D%0Db%1b[31m"
    httpx.get(f"{logged.url}{path}", headers={"x-request-id": "breaking"})
    wait_for(lambda: lines_of(logged, "breaking"))
    assert lines_of(logged, "breaking")[0]["path"] == '/a\n{"level":"error"}\rb\x1b[31m'


@pytest.fixture
def record():
    token = CURRENT.set(Visit("id-1", "GET", "/\x1b[31m\n", "other"))
    try:
        raise ValueError("what went wrong")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    yield logging.LogRecord("bentoml.photoz", logging.ERROR, "here", 1, "%r failed", ("/\x1b[31m\n",), info)
    CURRENT.reset(token)


def test_json_holds_the_trace_in_its_line(record):
    written = JsonFormatter().format(record)
    assert "\n" not in written
    line = json.loads(written)
    assert (line["level"], line["request_id"], line["logger"]) == ("error", "id-1", "bentoml.photoz")
    assert "ValueError: what went wrong" in line["exception"]


def test_text_is_for_people(record):
    first, *trace = TextFormatter().format(record).splitlines()
    assert first.endswith(r"ERROR '/\x1b[31m\n' failed (request id-1)")
    assert trace[-1] == "ValueError: what went wrong"


def test_it_says_what_is_served(logged):
    (line,) = (line for line in said(logged) if line["message"].startswith("serving toy "))
    assert " by openvino-f32, threads: " in line["message"]
    assert line["message"].endswith(", no key is asked for")


@pytest.mark.parametrize(
    ("memory", "n_keys", "warnings"),
    [
        (1e9, None, []),
        (1e9, 2, []),
        (1e8, 1, ["there are 0.10 GB of memory, 0.82 may be needed: "]),
        (1e9, 0, ["keys.txt holds no key: nobody gets in"]),
    ],
)
def test_what_cannot_go_well_is_said_at_the_start(caplog, monkeypatch, memory, n_keys, warnings):
    monkeypatch.setattr("service.logs.available_memory", lambda: memory)
    monkeypatch.setattr(logs.logger, "propagate", True)
    with caplog.at_level(logging.WARNING, logs.logger.name):
        logs.note_start("toy 1", Settings(keys_file=Path("keys.txt")), n_keys)
    assert len(caplog.messages) == len(warnings)
    assert all(message.startswith(warning) for message, warning in zip(caplog.messages, warnings, strict=True))
