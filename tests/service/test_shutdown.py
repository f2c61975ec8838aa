"""Ends and deaths: nobody who was let in is lost, and what cannot be says why in one line."""

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
from running import ROOT, free_port, running_service, serve_command, serve_environment
from toys import GRIZ, galaxies, npy_bytes
from wires import answer, connection, wait_for

from photoz.io.npz import npz_bytes

BODY = npy_bytes(galaxies(GRIZ, 1))
POST = b"POST /predict_file HTTP/1.1\r\nHost: service\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
def running(make_toy_bundle, tmp_path):
    """Run a service that takes half a second to end."""
    bundle = shutil.copytree(make_toy_bundle().path, tmp_path / "bundle")
    with running_service(tmp_path, PHOTOZ_BUNDLE=bundle, PHOTOZ_DRAIN=0.5) as running:
        yield running


def worker(running):
    (found,) = psutil.Process(running.process.pid).children()
    return found


def ask_until_refused(url, lost):
    """Ask on a connection of its own for each request, until none is made any more; note what was not answered."""
    answered = 0
    while True:
        try:
            with connection(url) as wire:
                wire.sendall(POST)
                if (found := answer(wire)) is None:
                    lost.append("ended without an answer")
                else:
                    assert found[0] == 200
                    answered += 1
        except ConnectionRefusedError:
            return answered
        except ConnectionResetError as error:
            lost.append(repr(error))


def test_the_end_loses_nobody(running):
    lost: list[str] = []
    arrays = {"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)}
    with ThreadPoolExecutor(6) as threads, connection(running.url) as late, connection(running.url) as idle:
        askers = [threads.submit(ask_until_refused, running.url, lost) for _ in range(4)]
        report = threads.submit(
            httpx.post,
            f"{running.url}/evaluate",
            content=npz_bytes(arrays),
            headers={"accept": "text/html"},
            timeout=60,
        )
        late.sendall(POST[:-100])
        idle.sendall(POST)
        assert answer(idle)[0] == 200
        wait_for(lambda: any("service.draw" in child.cmdline() for child in worker(running).children()))
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
        gone = httpx.get(f"{running.url}/readyz")
        assert gone.json() == {"error": "the service is about to end: it takes no more than it has"}
        assert gone.headers["connection"] == "close"
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 503
        assert httpx.get(f"{running.url}/livez").status_code == 200
        late.sendall(POST[-100:])
        assert answer(late)[0] == 200
        assert report.result().status_code == 200
        assert min(asker.result() for asker in askers) > 0
    assert lost == []
    assert running.process.wait(20) == 0


def test_a_dead_worker_is_replaced_and_a_request_that_waits_is_answered(running):
    before = worker(running)
    begin = time.monotonic()
    before.send_signal(signal.SIGKILL)
    before.wait(5)
    assert httpx.post(f"{running.url}/predict_file", content=BODY, timeout=30).status_code == 200
    assert time.monotonic() - begin < 20  # on a busy machine; `python -m benchmarks.endurance kills` measures it
    assert worker(running).pid != before.pid
    log = running.log.read_text()
    assert f"the worker, process {before.pid}, ended with -9 (killed; for want of memory? " in log
    assert "); starting another" in log


def test_a_worker_that_cannot_start_again_ends_the_service_in_words(running, tmp_path):
    (tmp_path / "bundle" / "openvino" / "model.bin").write_bytes(b"other")
    worker(running).send_signal(signal.SIGKILL)
    assert running.process.wait(40) == 1
    log = running.log.read_text()
    assert "is not the file that the bundle was sealed with: its sha256 differs" in log
    assert log.rstrip().endswith("photoz: the worker could not start, 3 times in a row; it said why")
    assert "Traceback" not in log


def ended(home, port, *arguments, **variables):
    """Start a service that cannot run; return what it says."""
    return subprocess.run(
        [*serve_command(port), *arguments],
        cwd=ROOT,
        env=serve_environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_port_that_is_taken_is_told_in_one_line(running, tmp_path):
    port = int(running.url.rpartition(":")[2])
    second = ended(tmp_path, port, PHOTOZ_BUNDLE=tmp_path / "bundle")
    assert second.returncode == 1
    assert second.stderr.splitlines() == [f"photoz: cannot listen on 127.0.0.1:{port}: Address already in use"]
    assert httpx.get(f"{running.url}/readyz").status_code == 200


def test_listening_to_all_without_keys_is_said_loudly(make_toy_bundle, tmp_path):
    command = serve_command(free_port())
    command[command.index("127.0.0.1")] = "0.0.0.0"
    environment = serve_environment(tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path, PHOTOZ_LOG_FORMAT="text")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: "ANYBODY WHO REACHES 0.0.0.0 MAY USE THIS SERVICE" in log.read_text())
    finally:
        process.terminate()
        process.wait(20)


def test_nobody_else_on_the_machine_gives_orders(running):
    """circus would listen for them on TCP ports of the loopback."""
    parent = psutil.Process(running.process.pid)
    port = int(running.url.rpartition(":")[2])
    family = [parent, *parent.children(recursive=True)]
    listening = {
        one.laddr.port for process in family for one in process.net_connections("tcp") if one.status == "LISTEN"
    }
    assert listening == {port}
    sockets = [one.laddr for one in parent.net_connections("unix") if one.laddr.endswith("/orders")]
    assert sockets
    assert all(os.stat(os.path.dirname(path)).st_mode & 0o077 == 0 for path in sockets)
