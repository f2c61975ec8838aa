"""Graceful shutdown, and restarts of a worker that dies."""

import faulthandler
import os
import re
import shutil
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from granian.server.mp import MPServer

from service import server
from service.resources import end_if_frozen
from service.server import PhotozServer
from service.settings import Settings
from service.startup import DRAIN_SIGNAL
from tests.running import running_service
from tests.service.helpers import EVALUATION, get, metric, post, suspended_evaluations, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

BODY = npy_bytes(galaxies(GRIZ, 1))
KILLED = "-9 (killed by the system, perhaps for lack of memory: docs/operations.md#size)"
POST = head("/predict_file", f"Content-Length: {len(BODY)}") + BODY


@pytest.fixture
def start(make_toy_bundle, tmp_path):
    """Return a function that starts a service with a bundle that may be changed."""
    bundle = shutil.copytree(make_toy_bundle().path, tmp_path / "bundle")
    fixed = {"PHOTOZ_BUNDLE": bundle, "PHOTOZ_HEADER_TIMEOUT": 600}
    return lambda drain_seconds: running_service(tmp_path, PHOTOZ_DRAIN_SECONDS=drain_seconds, **fixed)


def test_service_that_drains_is_not_ready_but_takes_requests(start):
    with start(3600) as service, RawConnection(service.url) as kept:
        (worker,) = service.workers
        kept.send(POST)
        assert "connection" not in kept.read_response().headers
        for _ in range(2):  # the second signal changes nothing
            service.process.send_signal(signal.SIGTERM)
            wait_for(lambda: get(service.url, "/readyz").status_code == 503)
        kept.send(POST)
        for response in (kept.read_response(), post(service.url, "/predict_file", BODY)):
            assert (response.status_code, response.headers["connection"]) == (200, "close")
        service.process.kill()
        worker.wait(120)  # nothing else would stop it


def test_shutdown_finishes_what_has_begun(start):
    with start(0) as service, RawConnection(service.url) as late, ThreadPoolExecutor(1) as thread:
        (worker,) = service.workers
        assert os.getpgid(worker.pid) == worker.pid  # it does not get signals to the group of the main process
        late.send(POST[:-100])
        wait_for(lambda: metric(service.url, "photoz_request_memory_bytes") == len(BODY))
        with suspended_evaluations(service):
            evaluation = thread.submit(post, service.url, "/evaluate", EVALUATION)
            wait_for(lambda: metric(service.url, "photoz_requests_in_flight") == 1)
            service.process.send_signal(signal.SIGINT)  # as Ctrl-C does
            with pytest.raises(ConnectionRefusedError):
                wait_for(lambda: RawConnection(service.url).__exit__())
            late.send(POST[-100:])
            assert late.read_response().status_code == 200
        assert evaluation.result().status_code == 200
        assert service.process.wait(120) == 0
    assert not re.search(
        "Traceback|Timeout", service.log.read_text()
    )  # the worker did not wait for the child that evaluated


@pytest.mark.skipif(sys.platform != "linux", reason="needs BPF programs of Linux")
def test_at_the_end_nobody_connects_any_more_and_those_who_have_are_accepted():
    process = object.__new__(PhotozServer)
    with socket.create_server(("127.0.0.1", 0)) as process._listener:
        address = process._listener.getsockname()
        with socket.create_connection(address) as client:
            process._refuse_connections()
            client.sendall(b"request")
            with pytest.raises(TimeoutError):
                socket.create_connection(address, 0.2)
            connection, _ = process._listener.accept()
            with connection:
                assert connection.recv(7) == b"request"


@pytest.mark.acceptance
def test_connections_wait_while_a_dead_worker_is_restarted_until_it_cannot(start, tmp_path):
    with start(0) as service:
        service.workers[0].kill()
        wait_for(lambda: KILLED in service.log.read_text())
        assert post(service.url, "/predict_file", BODY).status_code == 200
        (tmp_path / "bundle" / "openvino" / "model.bin").write_bytes(b"other")
        service.workers[0].kill()
        assert service.process.wait(120) == 1
    log = service.log.read_text()
    assert log.count("is not the file that the bundle was sealed with: its sha256 differs") == 3
    assert "\nphotoz: the worker could not start 3 times in a row; the log says why\n" in log  # granian's may follow it
    assert "Traceback" not in log


@pytest.fixture
def main_process(monkeypatch):
    """Return a main process without a worker, which records which workers it restarts."""
    monkeypatch.setattr(server, "max_connections", lambda: 100)
    monkeypatch.setattr(MPServer, "_respawn_workers", lambda self, workers: self.restarted.append(workers))
    seconds = {"header_timeout": 1.5, "transfer_timeout": 10, "request_timeout": 20.4, "drain_seconds": 7}
    process = PhotozServer("127.0.0.1", 0, Settings(**seconds))
    process.restarted = []
    return process


def test_server_has_the_limits_of_the_settings_and_a_socket_that_workers_share(main_process):
    http = main_process.http1_settings
    assert (http.header_read_timeout, http.max_buffer_size) == (1500, 262_144)
    assert (main_process.backpressure, main_process.workers_kill_timeout) == (100, 31)  # a second more than a request
    assert (main_process.workers, main_process.websockets, main_process.respawn_failed_workers) == (1, False, True)
    main_process._init_shared_socket()
    listener = main_process._listener
    assert listener.get_inheritable()
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
    listener.detach()


def die(process, status):
    process.wrks = [SimpleNamespace(inner=SimpleNamespace(exitcode=status, pid=123))]
    process.respawned_wrks[0] = 1.0
    process._respawn_workers([0])


def test_workers_that_cannot_start_three_times_in_a_row_end_the_service(main_process, caplog, monkeypatch):
    monkeypatch.setattr(server.logger, "propagate", True)
    for status in (3, 3, -9, -9, -9, -9, 3, 3):
        die(main_process, status)
    assert main_process.restarted == [[0]] * 8
    assert not main_process.respawned_wrks  # granian would give up at the second death within 5.5 s
    failed, killed = (f"the worker, process 123, ended with {status}; starting another" for status in ("3", KILLED))
    assert caplog.messages == [failed, failed, killed, killed, killed, killed, failed, failed]
    with pytest.raises(SystemExit, match="^photoz: the worker could not start 3 times in a row; the log says why$"):
        die(main_process, 3)
    main_process._shutdown = object()
    die(main_process, 3)  # a worker that ends during shutdown is not missed
    assert len(main_process.restarted) == 8


def test_first_signal_drains_the_workers_and_ends_the_service_after_a_delay(main_process, monkeypatch):
    timers, signals = [], []

    def kill(pid, number):
        signals.append((pid, number))
        if pid == 1:
            raise ProcessLookupError

    monkeypatch.setattr(server.os, "kill", kill)
    monkeypatch.setattr(server.threading, "Timer", lambda *of: timers.append(of) or SimpleNamespace(start=lambda: None))
    main_process.wrks = [SimpleNamespace(inner=SimpleNamespace(pid=pid)) for pid in (1, 2)]
    for _ in range(2):
        main_process.signal_handler_interrupt()
    assert signals == [(1, DRAIN_SIGNAL), (2, DRAIN_SIGNAL)]
    assert [delay for delay, _ in timers] == [7.0, 7.1]
    assert timers[0][1] == main_process._refuse_connections


def test_frozen_worker_is_looked_for_again_and_again(monkeypatch):
    calls = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *of, **options: calls.append((of, options)))
    loop = SimpleNamespace(call_later=lambda *of: calls.append(of))
    end_if_frozen(loop)
    assert calls == [((15.0,), {"exit": True}), (1.0, end_if_frozen, loop, 15.0)]
