"""The log: one line of JSON for each event, with the id of its request."""

import json
import logging
import os
import select
import sys

from service import logs
from service.logs import JsonFormatter, TextFormatter
from service.request import CURRENT_REQUEST
from service.settings import Settings
from tests.service.helpers import wait_for
from tests.service.requests import make_request
from tests.toys import galaxies


def lines(service):
    return [json.loads(line) for line in service.log.read_text().splitlines()]  # all of them are JSON


def log_of(service, request_id):
    """Wait for the line of a request."""
    wait_for(lambda: f'"request_id": "{request_id}"' in service.log.read_text())
    (line,) = [line for line in lines(service) if line.get("request_id") == request_id]
    return line


def test_request_has_a_line_with_its_id(client, post_npy, card, service):
    client.get("/readyz", headers={"x-request-id": "probe"})  # which is not logged
    cutouts = galaxies(card.image, 3)
    response = post_npy("/predict_file", cutouts, **{"x-request-id": "night-1"})
    assert response.headers["x-request-id"] == "night-1"
    line = log_of(service, "night-1")
    expected = {"level": "info", "method": "POST", "path": "/predict_file", "status": 200, "rows": 3}
    assert {name: line[name] for name in expected} == expected
    assert 0 < line["seconds"] < 60
    assert cutouts.nbytes < line["received_bytes"] < cutouts.nbytes + 1000
    assert "key" not in line
    assert "probe" not in service.log.read_text()


def test_path_cannot_break_a_line(client, service):
    path = "/a%0A%7B%22level%22:%22error%22%7D%0Db%1b[31m"
    assert client.get(path, headers={"x-request-id": "breaking"}).headers["x-request-id"] == "breaking"
    line = log_of(service, "breaking")
    assert (line["path"], line["status"]) == ('/a\n{"level":"error"}\rb\x1b[31m', 404)


def test_long_paths_are_cut(client, service):
    client.get("/" + "a" * 5000, headers={"x-request-id": "long"})
    line = log_of(service, "long")
    assert line["path"] == "/" + "a" * 496 + "..."
    assert len(line["message"]) == 500


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch):
    read, write = os.pipe()
    monkeypatch.setattr(logs, "MAX_WAITING", 10)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        handler = logs.DroppingHandler(TextFormatter())
        owner = logging.Logger("unread")
        owner.addHandler(handler)
        for _ in range(200):
            owner.error("a" * 1000)
        assert 50 < handler.dropped <= 190
        while handler.queue.unfinished_tasks:
            if select.select([read], [], [], 0.1)[0]:  # the last lines may have been read already
                os.read(read, 100_000)
    os.close(read)


def test_pickles_are_refused_without_a_trace(client, service):
    response = client.post("/predict", content=b"", headers={"content-type": "application/vnd.bentoml+pickle"})
    assert response.status_code == 415
    assert "Traceback" not in service.log.read_text()


def test_start_is_logged(service, card):
    (message,) = (one["message"] for one in lines(service) if one["message"].startswith("serving "))
    assert message.startswith(f"serving {card.name} {card.version} with openvino-")
    assert message.endswith(", no API key needed")


def test_formats_of_an_error():
    token = CURRENT_REQUEST.set(make_request(b"", x_request_id="id-1"))
    try:
        raise ValueError("what went wrong")
    except ValueError:
        record = logging.LogRecord(
            "bentoml.photoz", logging.ERROR, "here", 1, "%r failed", ("/\x1b[31m\n",), sys.exc_info()
        )
    as_json, as_text = JsonFormatter().format(record), TextFormatter().format(record)
    CURRENT_REQUEST.reset(token)
    line = json.loads(as_json)
    assert "\n" not in as_json
    assert (line["level"], line["request_id"], line["logger"]) == ("error", "id-1", "bentoml.photoz")
    assert "ValueError: what went wrong" in line["exception"]
    first, *traceback = as_text.splitlines()
    assert first.endswith(r"ERROR '/\x1b[31m\n' failed (request id-1)")
    assert traceback[-1] == "ValueError: what went wrong"


def test_start_warns_of_too_little_memory_and_of_no_keys(caplog, monkeypatch):
    settings = Settings(max_memory_bytes=100_000_000, api_keys_file="keys.txt")
    monkeypatch.setattr(logs.logger, "propagate", True)
    caplog.set_level(logging.WARNING, logs.logger.name)
    for memory, n_keys in [(1e9, None), (1e9, 2), (1e8, 1), (1e9, 0)]:
        monkeypatch.setattr("service.logs.available_memory", lambda memory=memory: memory)
        logs.log_start("toy 1", settings, n_keys)
    too_little, no_keys = caplog.messages
    assert too_little.startswith("0.10 GB of memory are available, up to 0.75 GB needed: ")
    assert no_keys == "keys.txt holds no key: all requests are refused"
