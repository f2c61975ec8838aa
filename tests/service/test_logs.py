"""The log: one line of JSON for each event, with the id of its request."""

import json
import logging

import pytest

from service.operations import logs
from service.operations.logs import JsonFormatter, TextFormatter
from service.operations.settings import Settings
from service.request import CURRENT_REQUEST, Request
from tests.service.helpers import wait_for
from tests.toys import galaxies


def lines(service):
    return [json.loads(line) for line in service.log.read_text().splitlines()]  # all of them are JSON


def lines_of(service, request_id):
    return [line for line in lines(service) if line.get("request_id") == request_id]


@pytest.fixture
def log_of(service):
    """Wait for the line of a request."""

    def wait(request_id):
        wait_for(lambda: lines_of(service, request_id))
        (line,) = lines_of(service, request_id)
        return line

    return wait


def test_request_has_a_line_with_its_id(post_npy, card, log_of):
    cutouts = galaxies(card.image, 3)
    response = post_npy("/predict_file", cutouts, **{"x-request-id": "night-1"})
    assert response.headers["x-request-id"] == "night-1"
    line = log_of("night-1")
    expected = {"level": "info", "method": "POST", "path": "/predict_file", "status": 200, "rows": 3}
    assert {name: line[name] for name in expected} == expected
    assert 0 < line["seconds"] < 60
    assert cutouts.nbytes < line["received_bytes"] < cutouts.nbytes + 1000
    assert "key" not in line


def test_probes_are_not_logged(client, service, log_of):
    client.get("/readyz", headers={"x-request-id": "probe"})
    client.get("/model", headers={"x-request-id": "after"})
    log_of("after")
    assert not lines_of(service, "probe")


def test_errors_have_the_id_too(client, log_of):
    assert client.get("/nothing", headers={"x-request-id": "missing"}).headers["x-request-id"] == "missing"
    assert log_of("missing")["status"] == 404


def test_path_cannot_break_a_line(client, log_of):
    path = "/a%0A%7B%22level%22:%22error%22%7D%0Db%1b[31m"
    client.get(path, headers={"x-request-id": "breaking"})
    assert log_of("breaking")["path"] == '/a\n{"level":"error"}\rb\x1b[31m'


def test_start_is_logged(service, card):
    (line,) = (line for line in lines(service) if line["message"].startswith(f"serving {card.name} {card.version} "))
    assert " with openvino-" in line["message"]
    assert line["message"].endswith(", no API key needed")


@pytest.fixture
def record():
    token = CURRENT_REQUEST.set(Request("id-1", "GET", "/\x1b[31m\n", "other", {}, {}))
    try:
        raise ValueError("what went wrong")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    yield logging.LogRecord("bentoml.photoz", logging.ERROR, "here", 1, "%r failed", ("/\x1b[31m\n",), info)
    CURRENT_REQUEST.reset(token)


def test_json_has_the_traceback_in_its_line(record):
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["request_id"], line["logger"]) == ("error", "id-1", "bentoml.photoz")
    assert "ValueError: what went wrong" in line["exception"]


def test_text_has_the_traceback_after_its_line(record):
    first, *traceback = TextFormatter().format(record).splitlines()
    assert first.endswith(r"ERROR '/\x1b[31m\n' failed (request id-1)")
    assert traceback[-1] == "ValueError: what went wrong"


@pytest.mark.parametrize(
    ("memory", "n_keys", "warnings"),
    [
        (1e9, None, []),
        (1e9, 2, []),
        (1e8, 1, ["0.10 GB of memory are available, up to 0.75 GB needed: "]),
        (1e9, 0, ["keys.txt holds no key: all requests are refused"]),
    ],
)
def test_start_warns_of_too_little_memory_and_of_no_keys(caplog, monkeypatch, memory, n_keys, warnings):
    monkeypatch.setattr("service.operations.logs.available_memory", lambda: memory)
    monkeypatch.setattr(logs.logger, "propagate", True)
    settings = Settings(max_memory_bytes=100_000_000, api_keys_file="keys.txt")
    with caplog.at_level(logging.WARNING, logs.logger.name):
        logs.log_start("toy 1", settings, n_keys)
    assert len(caplog.messages) == len(warnings)
    assert all(message.startswith(warning) for message, warning in zip(caplog.messages, warnings, strict=True))
