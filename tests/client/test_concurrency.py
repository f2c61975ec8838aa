"""Threads, asyncio tasks and interrupts."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from photoz_client import AsyncPhotozClient, PhotozClient
from tests.client.answers import numbered_cutouts, prediction
from tests.client.both_clients import ROWS, bins, blocking
from tests.client.misbehaving_server import TIMEOUT, serve

pytestmark = pytest.mark.usefixtures("small_requests")


@pytest.fixture
def waiting():
    """A behaviour that answers only after `waiting.release()`."""
    event = threading.Event()

    def behave(request):
        event.wait(TIMEOUT)
        return prediction(request)

    behave.release = event.set
    yield behave
    event.set()


def test_async_predict_parts_stops_with_its_loop():
    async def run(url):
        rows_seen = []
        async with AsyncPhotozClient(url, in_flight=2) as client:
            async for rows, part in client.predict_parts(numbered_cutouts(5 * ROWS), pdf=True):
                assert rows.tolist() == bins(part)
                rows_seen += rows.tolist()
            async for _ in client.predict_parts(numbered_cutouts(100 * ROWS)):
                break
        return rows_seen

    with serve(prediction) as server:
        assert asyncio.run(run(server.url)) == list(range(5 * ROWS))
        assert len(server.requests) <= 5 + 4


@pytest.mark.parametrize("cancel", [False, True])
def test_the_event_loop_is_free_during_a_prediction_which_can_be_cancelled(waiting, cancel):
    async def run(url):
        before = asyncio.all_tasks()
        async with AsyncPhotozClient(url, in_flight=3) as client:
            task = asyncio.create_task(client.predict(numbered_cutouts(3 * ROWS)))
            while len(server.requests) < 3:
                await asyncio.sleep(0.001)
            if not cancel:
                waiting.release()
                return len(await task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return len(asyncio.all_tasks() - before)

    with serve(waiting) as server:
        assert asyncio.run(asyncio.wait_for(run(server.url), TIMEOUT)) == (0 if cancel else 3 * ROWS)


def test_the_blocking_client_works_in_a_running_event_loop():
    async def notebook_cell(url):
        with PhotozClient(url) as client:
            rows = [row for part_rows, _ in client.predict_parts(numbered_cutouts(3 * ROWS)) for row in part_rows]
        return rows, bins(blocking(url, numbered_cutouts(3 * ROWS), pdf=True))

    with serve(prediction) as server:
        assert asyncio.run(notebook_cell(server.url)) == (list(range(3 * ROWS)),) * 2


def test_threads_share_a_client():
    results = {}

    def work(offset):
        results[offset] = bins(client.predict(numbered_cutouts(8 * ROWS)[offset:], pdf=True))

    with serve(prediction) as server, PhotozClient(server.url, in_flight=2) as client:
        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {offset: list(range(offset, 8 * ROWS)) for offset in range(4)}


def test_requests_in_flight_share_a_single_connection_of_a_given_client():
    http = httpx.Client(limits=httpx.Limits(max_connections=1))
    with serve(prediction) as server, http:
        client = PhotozClient(server.url, in_flight=4, timeout=TIMEOUT, http=http)
        assert bins(client.predict(numbered_cutouts(8 * ROWS), pdf=True)) == list(range(8 * ROWS))
        assert server.max_concurrent == 1


def test_an_interrupt_ends_a_prediction_at_once(waiting):
    code = """
import signal, sys, numpy as np
from photoz_client import PhotozClient
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
with PhotozClient(sys.argv[1], timeout=None) as client:
    client.predict(np.ones((1000, 8, 8, 2), np.float32))
"""
    with serve(waiting) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + TIMEOUT
        while not server.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT / 2)
        waiting.release()
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")
