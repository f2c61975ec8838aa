"""`python -m service` looks around before it starts, and says in one line what is in the way."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from running import ROOT, free_port, serve_environment

from service import serve

COMMAND = [sys.executable, "-m", "service"]


def ended(tmp_path, *arguments, **variables):
    command = [*COMMAND, *arguments]
    environment = serve_environment(tmp_path, **variables)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_it_ends_while_it_starts(tmp_path, seconds):
    # That it has a handler from the first is what counts: without one, process 1 of a container does not end.
    command = [*COMMAND, "--port", str(free_port())]
    starting = subprocess.Popen(command, cwd=ROOT, env=serve_environment(tmp_path), stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    starting.terminate()
    assert starting.wait(20) == 0


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        refused = ended(tmp_path, "--port", str(port))
    assert refused.returncode == 1
    assert refused.stderr == f"photoz: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("where", [("--port", "70000"), ("--host", "no.such.host.invalid")])
def test_so_is_an_address_that_is_none(tmp_path, where):
    refused = ended(tmp_path, *where)
    assert refused.returncode == 1
    assert refused.stderr.startswith("photoz: cannot listen on ")
    assert len(refused.stderr.splitlines()) == 1


def test_without_a_folder_to_write_to_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"^needs a folder to write to, such as /tmp or that of TMPDIR: "):
        serve._check_folders()


def test_a_home_that_cannot_be_written_to_is_not_needed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "file" / "bentoml"))
    serve._check_folders()
    assert Path(os.environ["BENTOML_HOME"]).is_dir()


def test_a_home_that_can_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    serve._check_folders()
    assert os.environ["BENTOML_HOME"] == str(tmp_path / "bentoml")
    assert (tmp_path / "bentoml").is_dir()
