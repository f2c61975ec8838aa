"""Start: what is checked before a worker starts, and the one-line errors where that fails."""

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import pytest

from service import server
from service.startup import worker_environment
from tests.running import ROOT, run_serve, starting_service, workers
from tests.service.helpers import wait_for
from tests.toys import toy_network


@pytest.fixture(scope="module")
def toy(make_toy_bundle):
    return make_toy_bundle().path


def check_one_line(ended, expected):
    """Check that a service ended at its start with this message and no other output."""
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [expected]
    assert ended.stdout == ""


def test_port_that_is_taken(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ended = run_serve(tmp_path, port)
    check_one_line(ended, f"photoz: cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("no.such.host.invalid", 3000), ("192.0.2.1", 3000)])
def test_unusable_address(host, port):
    with pytest.raises(OSError, match=rf"^cannot listen on {host}:{port}: "):
        server._check_port(host, port)


def test_bundle_with_one_byte_changed(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    changed = tmp_path / "bundle" / "model.keras"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    ended = run_serve(tmp_path, PHOTOZ_BUNDLE=tmp_path / "bundle")
    check_one_line(ended, f"photoz: {changed} is not the file that the bundle was sealed with: its sha256 differs")


def test_folder_that_is_not_a_bundle(tmp_path):
    ended = run_serve(tmp_path, PHOTOZ_BUNDLE=tmp_path)
    check_one_line(ended, f"photoz: {tmp_path} is not a model bundle: it holds no card.json")


def test_network_with_other_bins(make_toy_bundle, tmp_path):
    bundle = make_toy_bundle(network=toy_network(23, 4, 91, takes_ebv=False))
    ended = run_serve(tmp_path, PHOTOZ_BUNDLE=bundle.path)
    assert ended.returncode == 1
    (message,) = ended.stderr.splitlines()
    assert "its card says {'pdf': (90,)}" in message


def test_setting_that_cannot_be_used(tmp_path):
    ended = run_serve(tmp_path, PHOTOZ_MAX_ROWS=0)
    check_one_line(ended, "photoz: PHOTOZ_MAX_ROWS=0 cannot be used: input should be greater than 0")


def test_home_that_is_needed_for_a_tag(tmp_path):
    (tmp_path / "file").write_text("")
    ended = run_serve(tmp_path / "file" / "home", PHOTOZ_BUNDLE="toy:1")
    assert ended.returncode == 1
    (message,) = ended.stderr.splitlines()
    assert message.startswith("photoz: the model store: ")


def test_no_folder_to_write_to(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"^needs a folder to write to, such as /tmp or TMPDIR: "):
        server._check_folders()


def test_home_that_cannot_be_written_to_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("PHOTOZ_BUNDLE", raising=False)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "file" / "bentoml"))
    server._check_folders()
    assert Path(os.environ["BENTOML_HOME"]).is_dir()


def test_home_that_can_be_written_to_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    server._check_folders()
    assert os.environ["BENTOML_HOME"] == str(tmp_path / "bentoml")
    assert (tmp_path / "bentoml").is_dir()


def test_worker_gets_the_engine_that_passed_preflight(toy, monkeypatch):
    monkeypatch.setenv("PHOTOZ_BUNDLE", os.path.relpath(toy, ROOT))
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    monkeypatch.delenv("PHOTOZ_ENGINE", raising=False)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("service.operations.logs.configure", lambda log_format: None)
    environment = worker_environment()
    assert (environment["PHOTOZ_BUNDLE"], environment["PHOTOZ_ENGINE"]) == (str(toy), "openvino-f32")
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MALLOC_ARENA_MAX"] == "7"  # what the operator sets counts
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) > 0


def test_listening_on_all_interfaces_without_keys_is_warned_of(toy, tmp_path):
    with starting_service(tmp_path, host="0.0.0.0", PHOTOZ_BUNDLE=toy) as service:
        wait_for(lambda: "Listening on 0.0.0.0 without API keys: anyone who can reach" in service.log.read_text())


def test_sigterm_before_the_worker_starts(toy, tmp_path):
    with starting_service(tmp_path, PHOTOZ_BUNDLE=toy) as service:
        time.sleep(0.5)  # without a handler, process 1 of a container does not end; the imports take longer
        service.process.terminate()
        assert service.process.wait(20) == 0


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.5])  # seconds; the worker needs one to start
def test_sigterm_while_the_worker_starts(toy, tmp_path, delay):
    with starting_service(tmp_path, PHOTOZ_BUNDLE=toy) as service:
        wait_for(lambda: workers(service.process))
        time.sleep(delay)
        service.process.terminate()
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.log.read_text()
