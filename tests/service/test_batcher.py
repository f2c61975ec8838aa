"""Dynamic batching: what is batched, in what order, and that no request affects another."""

import asyncio
import os
import sys
import threading
import weakref

import numpy as np
import pytest

from photoz.images import Batch
from service.batcher import DynamicBatcher
from tests.service.helpers import PATIENCE, wait_for

Z_MEAN = frozenset({"z_mean"})


def make_batch(*values):
    """Make a batch of 1x1 cutouts with these pixels."""
    nothing = np.zeros(len(values), bool)
    pixels = np.array(values, np.float32).reshape(-1, 1, 1, 1)
    return Batch(pixels, nothing, nothing, np.zeros(len(values), np.float32), nothing)


class Model:
    """Returns the pixel of each cutout and records the batches; fails on 13 in the network and on 14 after it."""

    def __init__(self):
        self.batches, self.running, self.gate = [], 0, threading.Event()
        self.gate.set()
        self.batcher = DynamicBatcher(self.run_network, self.summarise, max_batch=8)

    def run_network(self, batch):
        self.running += 1
        self.gate.wait(PATIENCE)
        values = batch.images[:, 0, 0, 0].astype(float)
        self.batches.append(values.tolist())
        if (values == 13).any():
            raise ValueError("thirteen")
        return values

    def summarise(self, batch, output, columns):
        if (output == 14).any():
            raise RuntimeError("fourteen")
        return {name: output for name in columns}


@pytest.fixture
def model():
    return Model()


async def predict(batcher, *values):
    return (await batcher.predict(make_batch(*values), Z_MEAN))["z_mean"].tolist()


async def occupy(model):
    """Send a request that runs in the network until the gate of the model opens."""
    model.gate.clear()
    before, task = model.running, asyncio.create_task(predict(model.batcher, 0))
    while model.running == before:
        await asyncio.sleep(0.001)
    return task


async def queue(coroutine):
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


def run_together(model, *requests):
    """Send requests while the network runs another one; return their results and errors."""

    async def run():
        await occupy(model)
        tasks = [await queue(request) for request in requests]
        model.gate.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)

    return asyncio.run(run())


def test_waiting_requests_are_batched_up_to_the_limit_and_get_their_columns(model):
    requests = [(1,), (2, 3), (4,), (5, 5, 5, 5), (6,), (7, 7)]
    results = run_together(model, *(predict(model.batcher, *values) for values in requests))
    assert [tuple(values) for values in results] == requests
    assert model.batches == [[0], [1, 2, 3, 4, 5, 5, 5, 5], [6, 7, 7]]
    chosen = [Z_MEAN, frozenset({"odds", "flags"})]
    results = run_together(model, *(model.batcher.predict(make_batch(1), columns) for columns in chosen))
    assert [set(result) for result in results] == chosen


def test_large_request_comes_back_in_order_and_small_ones_run_between_its_parts(model):
    large = np.random.default_rng(0).permutation(np.arange(100, 260)).tolist()
    results = run_together(model, predict(model.batcher, *large), predict(model.batcher, 1))
    assert results == [large, [1]]
    assert model.batches[:5] == [[0], large[:8], large[8:16], large[16:24], [1]]  # three parts are queued at a time


@pytest.mark.parametrize(("bad", "kind"), [(13, ValueError), (14, RuntimeError)])
def test_error_of_one_request_does_not_reach_others(model, bad, kind):
    for _ in range(10):  # either thread may be first
        requests = predict(model.batcher, 1), predict(model.batcher, bad), predict(model.batcher, 2)
        first, failed, last = run_together(model, *requests)
        assert (first, type(failed), last) == ([1], kind, [2])


def test_cancelled_requests_do_not_affect_others_nor_run(model):
    async def run():
        running = await occupy(model)
        cancelled, other = await queue(predict(model.batcher, 5)), await queue(predict(model.batcher, 6, 7))
        queued = model.batcher.queued_rows
        running.cancel()
        cancelled.cancel()
        await asyncio.wait([running, cancelled])
        model.gate.set()
        return queued, await other, model.batcher.queued_rows

    assert asyncio.run(run()) == (3, [6, 7], 0)
    assert model.batches == [[0], [6, 7]]


def test_network_runs_while_the_previous_batch_is_summarised():
    ran, running = [threading.Event() for _ in range(6)], threading.Lock()

    def run_network(batch):
        assert running.acquire(blocking=False)  # one batch at a time
        (value,) = batch.images.ravel()
        ran[int(value)].set()
        running.release()
        return value

    def summarise(batch, output, columns):
        assert output == 5 or ran[int(output) + 1].wait(PATIENCE)
        return {"z_mean": np.array([output])}

    batcher = DynamicBatcher(run_network, summarise, max_batch=1)

    async def run():
        return await asyncio.gather(*(predict(batcher, i) for i in range(6)))

    assert asyncio.run(run()) == [[i] for i in range(6)]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_event_loop_goes_first():
    def niceness(*_):
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    batcher = DynamicBatcher(niceness, lambda batch, output, columns: {"z_mean": np.array([output, niceness()])})
    assert asyncio.run(predict(batcher, 1)) == [min(niceness() + 5, 19)] * 2


def test_nothing_is_held_of_requests_that_are_done_or_cancelled_in_the_queue(model):
    async def predict_and_forget():
        done, cancelled = make_batch(*[1] * 20), make_batch(1, 2)  # the first in several parts, which are views of it
        await model.batcher.predict(done, Z_MEAN)
        running = await occupy(model)
        queued = await queue(model.batcher.predict(cancelled, Z_MEAN))
        queued.cancel()
        await asyncio.wait([queued])
        model.gate.set()
        await running
        return weakref.ref(done.images.base), weakref.ref(cancelled.images)

    for alive in asyncio.run(predict_and_forget()):
        wait_for(lambda alive=alive: alive() is None)
