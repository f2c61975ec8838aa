"""Graceful shutdown, and restarts of a worker that dies."""

import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from photoz.io.npz import npz_bytes
from tests.running import running_service, wait_until_ready
from tests.service.helpers import wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

BODY = npy_bytes(galaxies(GRIZ, 1))
POST = head("/predict_file", f"Content-Length: {len(BODY)}") + BODY


@pytest.fixture
def running(make_toy_bundle, tmp_path):
    """Run a service that takes half a second to shut down, with a bundle that may be changed."""
    bundle = shutil.copytree(make_toy_bundle().path, tmp_path / "bundle")
    with running_service(tmp_path, PHOTOZ_BUNDLE=bundle, PHOTOZ_DRAIN_SECONDS=0.5) as running:
        yield running


class Requests:
    """Sends requests, each on its own connection, until the service does not listen any more."""

    def __init__(self, url):
        self.answered, self.lost, self.url = 0, [], url

    def run(self):
        while True:
            try:
                with RawConnection(self.url) as connection:
                    connection.send(POST)
                    response = connection.read_response()
            except ConnectionRefusedError:
                return
            except OSError as error:
                self.lost.append(error)
                continue
            if response is None or response.status != 200:
                self.lost.append(response)
            else:
                self.answered += 1


def test_shutdown_answers_all_requests(running):
    requests = [Requests(running.url) for _ in range(4)]
    evaluation = npz_bytes({"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)})
    with ThreadPoolExecutor(5) as threads, RawConnection(running.url) as late, RawConnection(running.url) as kept:
        done = [threads.submit(one.run) for one in requests]
        report = threads.submit(
            httpx.post, f"{running.url}/evaluate", content=evaluation, headers={"accept": "text/html"}, timeout=60
        )
        late.send(POST[:-100])
        kept.send(POST)
        response = kept.read_response()
        assert response.status == 200
        assert "connection" not in response.headers
        wait_for(running.worker.children)  # the report is being drawn
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
        response = httpx.get(f"{running.url}/readyz")
        assert response.json() == {"error": "the service is shutting down and takes no new work"}
        assert response.headers["connection"] == "close"
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 503
        assert httpx.get(f"{running.url}/livez").status_code == 200
        kept.send(POST)
        response = kept.read_response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        late.send(POST[-100:])
        assert late.read_response().status == 200
        assert report.result().status_code == 200
        for one in done:
            one.result()
    assert [one.lost for one in requests] == [[]] * 4
    assert min(one.answered for one in requests) > 0
    assert running.process.wait(20) == 0
    assert "Traceback" not in running.log.read_text()


def test_request_that_arrives_late_is_answered_after_the_drain(running):
    with RawConnection(running.url) as late:
        late.send(POST[:-100])
        running.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        late.send(POST[-100:])
        assert late.read_response().status == 200
    assert running.process.wait(20) == 0


def test_ctrl_c_shuts_down_as_sigterm_does(running):
    running.process.send_signal(signal.SIGINT)
    wait_for(lambda: httpx.get(f"{running.url}/readyz").status_code == 503)
    assert running.process.wait(20) == 0


def test_dead_worker_is_restarted(running):
    for _ in range(3):  # deaths in a row are no reason to give up, unlike failed starts
        before = running.worker
        before.kill()
        before.wait(5)
        wait_until_ready(running.process, running.url, running.log)
        assert httpx.post(f"{running.url}/predict_file", content=BODY).status_code == 200
        log = running.log.read_text()
        cause = "killed by the system, perhaps for lack of memory: docs/operations.md#size"
        assert f"the worker, process {before.pid}, ended with -9 ({cause}); starting another" in log
    assert "Traceback" not in log


def test_worker_that_cannot_restart_ends_the_service(running, tmp_path):
    (tmp_path / "bundle" / "openvino" / "model.bin").write_bytes(b"other")
    running.worker.kill()
    assert running.process.wait(40) == 1
    log = running.log.read_text()
    assert log.count("is not the file that the bundle was sealed with: its sha256 differs") == 3
    assert log.rstrip().endswith("photoz: the worker could not start 3 times in a row; the log says why")
    assert "Traceback" not in log
