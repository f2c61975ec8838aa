"""Start: what is checked before a worker starts, and the one-line errors where that fails."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from service import server
from service.startup import worker_environment
from tests.running import run_serve, running_service
from tests.service.helpers import wait_for


@pytest.fixture(scope="module")
def toy(make_toy_bundle):
    return make_toy_bundle().path


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PHOTOZ_MAX_ROWS": 0}, "PHOTOZ_MAX_ROWS=0 cannot be used: input should be greater than 0"),
        ({"PHOTOZ_BUNDLE": "/"}, "/ is not a model bundle: it holds no card.json"),
        ({"PHOTOZ_API_KEYS_FILE": "/none"}, "PHOTOZ_API_KEYS_FILE=/none cannot be read: "),
        ({"PHOTOZ_BUNDLE": "toy:1", "BENTOML_HOME": "/dev/null/home"}, "the model store: "),
    ],
)
def test_unusable_configuration_ends_the_start_with_one_line(tmp_path, variables, message):
    ended = run_serve(tmp_path, **variables)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"photoz: {message}")


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("no.such.host.invalid", 3000), ("192.0.2.1", 3000)])
def test_unusable_address(host, port):
    with pytest.raises(OSError, match=rf"^cannot listen on {host}:{port}: "):
        server._check_port(host, port)


def test_no_folder_to_write_to(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"^needs a folder to write to, such as /tmp or TMPDIR: "):
        server._check_folders()


@pytest.mark.parametrize(("parent", "kept"), [("folder", True), ("file", False)])
def test_home_that_cannot_be_written_to_is_replaced(tmp_path, monkeypatch, parent, kept):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    home = tmp_path / parent / "bentoml"
    monkeypatch.delenv("PHOTOZ_BUNDLE", raising=False)
    monkeypatch.setenv("BENTOML_HOME", str(home))
    server._check_folders()
    assert Path(os.environ["BENTOML_HOME"]).is_dir()
    assert (os.environ["BENTOML_HOME"] == str(home)) is kept


def test_worker_environment(toy, tmp_path, monkeypatch):
    variables = {"PHOTOZ_BUNDLE": os.path.relpath(toy), "MALLOC_ARENA_MAX": "7", "HOME": str(tmp_path), "CI": ""}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PHOTOZ_ENGINE", raising=False)
    monkeypatch.setattr("service.operations.logs.configure", lambda log_format: None)
    environment = worker_environment()
    assert environment["PHOTOZ_BUNDLE"] == str(toy)
    assert environment["PHOTOZ_ENGINE"] == "openvino-f32"  # what passed preflight, in place of auto
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MALLOC_ARENA_MAX"] == "7"  # what the operator sets counts
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) > 0
    assert not (tmp_path / "intel").exists()  # where OpenVINO keeps the id that it reports its use with


def test_listening_on_all_interfaces_without_keys_is_warned_of(toy, tmp_path):
    with running_service(tmp_path, host="0.0.0.0", PHOTOZ_BUNDLE=toy) as service:
        wait_for(lambda: "Listening on 0.0.0.0 without API keys: anyone who can reach" in service.log.read_text())


def test_sigterm_before_the_worker_starts(toy, tmp_path):
    with running_service(tmp_path, ready=False, PHOTOZ_BUNDLE=toy) as service:
        time.sleep(0.5)  # without a handler, process 1 of a container does not end; the imports take longer
        service.process.terminate()
        assert service.process.wait(20) == 0


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.5])  # seconds; the worker needs one to start
def test_sigterm_while_the_worker_starts(toy, tmp_path, delay):
    with running_service(tmp_path, ready=False, PHOTOZ_BUNDLE=toy) as service:
        wait_for(lambda: service.workers)
        time.sleep(delay)
        service.process.terminate()
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.log.read_text()
