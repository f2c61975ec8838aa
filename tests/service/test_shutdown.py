"""Graceful shutdown, and restarts of a worker that dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from photoz.io.npz import npz_bytes
from service.server import PhotozServer
from tests.running import ROOT, running_service
from tests.service.helpers import wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

BODY = npy_bytes(galaxies(GRIZ, 1))
POST = head("/predict_file", f"Content-Length: {len(BODY)}") + BODY
EVALUATION = npz_bytes({"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)})


@pytest.fixture
def running(make_toy_bundle, tmp_path):
    """Run a service that takes half a second to shut down, with a bundle that may be changed."""
    bundle = shutil.copytree(make_toy_bundle().path, tmp_path / "bundle")
    with running_service(tmp_path, PHOTOZ_BUNDLE=bundle, PHOTOZ_DRAIN_SECONDS=0.5) as running:
        yield running


def post_until_refused(url):
    """Send requests, each on its own connection, until the service does not listen any more; return the responses."""
    responses = []
    while True:
        try:
            with RawConnection(url) as connection:
                connection.send(POST)
                responses.append(connection.read_response())
        except ConnectionRefusedError:
            return responses
        except OSError as error:
            responses.append(error)


def test_shutdown_answers_all_requests(running):
    url, report = running.url, {"content": EVALUATION, "headers": {"accept": "text/html"}, "timeout": 60}
    with ThreadPoolExecutor(5) as threads, RawConnection(url) as late, RawConnection(url) as kept:
        clients = [threads.submit(post_until_refused, url) for _ in range(4)]
        evaluation = threads.submit(httpx.post, f"{url}/evaluate", **report)
        late.send(POST[:-100])
        kept.send(POST)
        response = kept.read_response()
        assert response.status_code == 200
        assert "connection" not in response.headers
        wait_for(running.workers[0].children)  # the report is being drawn
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        refused = httpx.get(f"{url}/v2/health/ready")
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        assert refused.json() == {"error": "the service is shutting down and takes no new work"}
        assert httpx.get(f"{url}/livez").status_code == 200
        kept.send(POST)
        response = kept.read_response()
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        assert evaluation.result().status_code == 200
        for client in clients:
            responses = client.result()
            assert responses
            assert all(response and response.status_code == 200 for response in responses)
        late.send(POST[-100:])  # the service does not listen any more, but still receives this
        assert late.read_response().status_code == 200
    assert running.process.wait(20) == 0
    assert "Traceback" not in running.log.read_text()
    assert "Timeout" not in running.log.read_text()  # the worker did not wait for the child that drew


@pytest.mark.skipif(sys.platform != "linux", reason="needs BPF programs of Linux")
def test_at_the_end_nobody_connects_any_more_and_those_who_have_are_accepted():
    server = object.__new__(PhotozServer)
    with socket.create_server(("127.0.0.1", 0)) as server._listener:
        address = server._listener.getsockname()
        with socket.create_connection(address) as client:
            server._refuse_connections()
            client.sendall(b"request")
            with pytest.raises(TimeoutError):
                socket.create_connection(address, 0.2)
            connection, _ = server._listener.accept()
            with connection:
                assert connection.recv(7) == b"request"


def test_ctrl_c_shuts_down_as_sigterm_does(running):
    worker = running.workers[0].pid
    assert os.getpgid(worker) == worker  # it does not get signals to the group of the main process
    running.process.send_signal(signal.SIGINT)
    wait_for(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
    assert running.process.wait(20) == 0


def test_connections_wait_while_a_dead_worker_is_restarted(running):
    for _ in range(3):  # deaths in a row are no reason to give up, unlike failed starts
        (before,) = running.workers
        before.kill()
        cause = "killed by the system, perhaps for lack of memory: docs/operations.md#size"
        message = f"the worker, process {before.pid}, ended with -9 ({cause}); starting another"
        wait_for(lambda message=message: message in running.log.read_text())
        assert httpx.post(f"{running.url}/predict_file", content=BODY, timeout=60).status_code == 200
    running.process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
    assert httpx.post(f"{running.url}/predict_file", content=BODY).status_code == 200
    assert running.process.wait(20) == 0
    assert "Traceback" not in running.log.read_text()


def test_worker_that_cannot_restart_ends_the_service(running, tmp_path):
    (tmp_path / "bundle" / "openvino" / "model.bin").write_bytes(b"other")
    running.workers[0].kill()
    assert running.process.wait(40) == 1
    log = running.log.read_text()
    assert log.count("is not the file that the bundle was sealed with: its sha256 differs") == 3
    assert "photoz: the worker could not start 3 times in a row; the log says why" in log.splitlines()
    assert "Traceback" not in log


# The second sleep is a function of C, and holds the interpreter's lock.
FROZEN = """
import asyncio, ctypes, time
from service.resources import end_if_frozen

loop = asyncio.new_event_loop()
end_if_frozen(loop, 1.0)
loop.run_until_complete(asyncio.sleep(2.0))
print("alive", flush=True)
ctypes.PyDLL(None).sleep(30)
"""


def test_worker_that_freezes_while_it_shuts_down_ends():
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", FROZEN], cwd=ROOT, capture_output=True, text=True, timeout=25)
    assert done.stdout == "alive\n"
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert time.monotonic() - begin < 20
