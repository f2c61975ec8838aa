"""Dynamic batching: what is batched, in what order, and that no request affects another."""

import asyncio
import threading
import time
import weakref

import numpy as np
import pytest

from photoz.images import Batch
from service.batcher import DynamicBatcher


def make_batch(*values):
    """Make a batch of 1x1 cutouts with these pixels."""
    nothing = np.zeros(len(values), bool)
    pixels = np.array(values, np.float32).reshape(-1, 1, 1, 1)
    return Batch(pixels, nothing, nothing, np.zeros(len(values), np.float32), nothing)


class Model:
    """Returns the pixel of each cutout and records the batches; fails on 13 in the network and on 14 after it."""

    def __init__(self):
        self.batches, self.running, self.most_running, self.gate = [], 0, 0, threading.Event()
        self.gate.set()

    def run_network(self, batch):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.gate.wait(5)
        values = batch.images[:, 0, 0, 0].astype(float)
        self.batches.append(values.tolist())
        self.running -= 1
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


@pytest.fixture
def batcher(model):
    return DynamicBatcher(model.run_network, model.summarise, max_batch=8)


async def predict(batcher, *values):
    return (await batcher.predict(make_batch(*values), frozenset({"z_mean"})))["z_mean"].tolist()


async def occupy(model, batcher):
    """Send a request that runs in the network until the gate of the model opens."""
    model.gate.clear()
    task = asyncio.create_task(predict(batcher, 0))
    while not model.running:
        await asyncio.sleep(0.001)
    return task


async def queue(coroutine):
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


def run_together(model, batcher, *requests):
    """Send requests while the network runs another one; return their results and errors."""

    async def run():
        await occupy(model, batcher)
        tasks = [await queue(request) for request in requests]
        model.gate.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    return asyncio.run(run())


def test_request_that_finds_the_engine_idle_starts_at_once(model, batcher):
    assert asyncio.run(predict(batcher, 3)) == [3]
    assert model.batches == [[3]]


def test_waiting_requests_are_batched(model, batcher):
    results = run_together(model, batcher, predict(batcher, 1), predict(batcher, 2, 3), predict(batcher, 4))
    assert results == [[1], [2, 3], [4]]
    assert model.batches == [[0], [1, 2, 3, 4]]


def test_each_request_gets_its_columns(model, batcher):
    chosen = [frozenset({"z_mean"}), frozenset({"odds", "flags"})]
    results = run_together(model, batcher, *(batcher.predict(make_batch(1), columns) for columns in chosen))
    assert [set(result) for result in results] == chosen


def test_batches_are_limited(model, batcher):
    run_together(model, batcher, *(predict(batcher, i, i) for i in range(1, 8)))
    assert [len(values) for values in model.batches] == [1, 8, 6]


def test_large_request_comes_back_in_order(batcher):
    values = np.random.default_rng(0).permutation(np.arange(15, 215)).tolist()
    assert asyncio.run(predict(batcher, *values)) == values


def test_small_request_runs_between_the_parts_of_a_large_one(model, batcher):
    run_together(model, batcher, predict(batcher, *range(100, 260)), predict(batcher, 1))
    position = next(i for i, values in enumerate(model.batches) if 1 in values)
    assert position <= 4 < len(model.batches) - 10


@pytest.mark.parametrize("attempt", range(10))  # either thread may be first
@pytest.mark.parametrize(("bad", "kind"), [(13, ValueError), (14, RuntimeError)])
def test_error_of_one_request_does_not_reach_others(model, batcher, bad, kind, attempt):
    requests = predict(batcher, 1), predict(batcher, bad), predict(batcher, 2)
    first, failed, last = run_together(model, batcher, *requests)
    assert (first, last) == ([1], [2])
    assert isinstance(failed, kind)


def test_cancelled_requests_do_not_affect_others_nor_run(model, batcher):
    async def run():
        running = await occupy(model, batcher)
        cancelled, other = await queue(predict(batcher, 5)), await queue(predict(batcher, 6, 7))
        queued = batcher.queued_rows
        running.cancel()
        cancelled.cancel()
        await asyncio.wait([running, cancelled])
        model.gate.set()
        return queued, await other, batcher.queued_rows

    assert asyncio.run(run()) == (3, [6, 7], 0)
    assert model.batches == [[0], [6, 7]]


def test_network_runs_while_the_previous_batch_is_summarised(model):
    second_ran = threading.Event()

    def run_network(batch):
        values = model.run_network(batch)
        if 21 in values:
            second_ran.set()
        return values

    def summarise(batch, output, columns):
        assert 20 not in output or second_ran.wait(5)
        return {"z_mean": output}

    batcher = DynamicBatcher(run_network, summarise, max_batch=1)

    async def run():
        return await asyncio.gather(*(predict(batcher, i) for i in range(20, 26)))

    assert asyncio.run(run()) == [[i] for i in range(20, 26)]
    assert model.most_running == 1


def wait_until_gone(alive):
    for _ in range(100):  # until the threads wait again
        if alive() is None:
            return
        time.sleep(0.01)
    raise AssertionError("the images are still held")


def test_nothing_is_held_of_a_batch_that_is_done(batcher):
    async def predict_and_forget():
        batch = make_batch(*[1] * 20)  # in several parts, which are views of it
        alive = weakref.ref(batch.images.base)
        await batcher.predict(batch, frozenset({"z_mean"}))
        return alive

    wait_until_gone(asyncio.run(predict_and_forget()))


def test_nothing_is_held_of_a_request_that_was_cancelled_in_the_queue(model, batcher):
    async def cancel_and_forget():
        running, batch = await occupy(model, batcher), make_batch(1, 2)
        alive = weakref.ref(batch.images)
        queued = await queue(batcher.predict(batch, frozenset({"z_mean"})))
        queued.cancel()
        await asyncio.wait([queued])
        model.gate.set()
        await running
        return alive

    wait_until_gone(asyncio.run(cancel_and_forget()))
