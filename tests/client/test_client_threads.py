"""Threads, tasks and interrupts: both clients at work beside others."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
from predicting import ROWS, bins, blocking
from unruly import TIMEOUT, good, numbered, serving

from photoz_client import (
    AsyncPhotozClient,
    PhotozClient,
)

pytestmark = pytest.mark.usefixtures("few_rows")


def test_async_parts_and_the_other_calls():
    async def run(url):
        rows_seen = []
        async with AsyncPhotozClient(url, in_flight=2) as client:
            async for rows, prediction in client.predict_parts(numbered(5 * ROWS), pdf=True):
                assert rows.tolist() == bins(prediction)
                rows_seen += rows.tolist()
            async for _ in client.predict_parts(numbered(100 * ROWS)):
                break
        return rows_seen

    with serving(good) as server:
        assert asyncio.run(run(server.url)) == list(range(5 * ROWS))
        assert len(server.asked) <= 5 + 4


def test_the_event_loop_goes_on_while_a_prediction_waits():
    let_go = threading.Event()

    def waiting(asked):
        assert let_go.wait(TIMEOUT)
        return good(asked)

    async def run(url):
        async with AsyncPhotozClient(url) as client:
            prediction = asyncio.create_task(client.predict(numbered(3 * ROWS)))
            while len(server.asked) < 3:
                await asyncio.sleep(0.001)
            let_go.set()
            return len(await prediction)

    with serving(waiting) as server:
        assert asyncio.run(asyncio.wait_for(run(server.url), TIMEOUT)) == 3 * ROWS


def test_a_cancelled_prediction_leaves_nothing_behind():
    let_go = threading.Event()

    def waiting(asked):
        assert let_go.wait(TIMEOUT)
        return good(asked)

    async def run(url):
        async with AsyncPhotozClient(url, in_flight=3) as client:
            prediction = asyncio.create_task(client.predict(numbered(9 * ROWS)))
            while len(server.asked) < 3:
                await asyncio.sleep(0.001)
            prediction.cancel()
            with pytest.raises(asyncio.CancelledError):
                await prediction
            return asyncio.all_tasks() - {asyncio.current_task()}

    with serving(waiting) as server:
        assert not asyncio.run(run(server.url))
        let_go.set()
        assert len(server.asked) == 3


def test_the_blocking_client_works_inside_a_running_event_loop_as_a_notebook_has_one():
    async def cell(url):
        return blocking(url, numbered(3 * ROWS), pdf=True)

    with serving(good) as server:
        assert bins(asyncio.run(cell(server.url))) == list(range(3 * ROWS))


def test_several_threads_share_a_client():
    results = {}

    def work(offset):
        results[offset] = bins(client.predict(numbered(8 * ROWS)[offset:], pdf=True))

    with serving(good) as server, PhotozClient(server.url, in_flight=2) as client:
        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {offset: list(range(offset, 8 * ROWS)) for offset in range(4)}


def test_a_given_client_with_one_connection_serves_all_requests_in_flight_in_turn():
    http = httpx.Client(limits=httpx.Limits(max_connections=1))
    with serving(good) as server, http:
        prediction = PhotozClient(server.url, in_flight=4, timeout=TIMEOUT, http=http).predict(
            numbered(8 * ROWS), pdf=True
        )
        assert server.most_at_once == 1
    assert bins(prediction) == list(range(8 * ROWS))


def test_an_interrupt_ends_a_prediction_at_once():
    let_go = threading.Event()

    def waiting(asked):
        let_go.wait(TIMEOUT)
        return good(asked)

    code = """
import sys, numpy as np
from photoz_client import PhotozClient
with PhotozClient(sys.argv[1], timeout=None) as client:
    client.predict(np.ones((1000, 8, 8, 2), np.float32))
"""
    with serving(waiting) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + TIMEOUT
        while not server.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=5)
        let_go.set()
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")
