"""The lane: who travels together, in what order, and that nobody pays for another."""

import asyncio
import threading

import numpy as np
import pytest

from photoz.images import EbvBatch, ImageBatch
from service.batch import Batch
from service.lane import ROWS, Lane


def batch(*values):
    n = len(values)
    pixels = np.array(values, np.float32).reshape(n, 1, 1, 1)
    nothing = np.zeros(n, bool)
    return Batch(ImageBatch(pixels, nothing, nothing), EbvBatch(np.zeros(n, np.float32), nothing), None)


async def estimate(lane, batch, column="z_mean"):
    return (await lane.columns(batch, frozenset({column})))[column]


class Model:
    """Gives each cutout its own value back; records what came together, and refuses the value 13."""

    def __init__(self):
        self.seen, self.in_engine, self.most, self.gate = [], 0, 0, threading.Event()
        self.gate.set()

    def infer(self, batch):
        self.in_engine += 1
        self.most = max(self.most, self.in_engine)
        self.gate.wait(5)
        values = batch.images.images[:, 0, 0, 0].astype(float)
        self.seen.append(values.tolist())
        self.in_engine -= 1
        if (values == 13).any():
            raise ValueError("thirteen")
        return values

    def summarise(self, batch, output, wanted):
        if (output == 14).any():
            raise RuntimeError("fourteen")
        return {name: output for name in wanted}


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def lane(model):
    return Lane(model.infer, model.summarise, rows=8)


async def held_together(model, lane, *batches):
    """Send one batch that occupies the engine, the others while it does, and return the outcomes of the others."""
    model.gate.clear()
    first = asyncio.ensure_future(estimate(lane, batch(0)))
    while not model.in_engine:
        await asyncio.sleep(0.001)
    others = [asyncio.ensure_future(estimate(lane, one)) for one in batches]
    await asyncio.sleep(0)
    model.gate.set()
    await first
    return others


def test_a_request_that_finds_the_engine_idle_goes_at_once_and_alone(model, lane):
    assert asyncio.run(estimate(lane, batch(3))).tolist() == [3]
    assert model.seen == [[3]]


def test_what_waits_for_the_engine_travels_together_and_everyone_gets_their_own(model, lane):
    async def run():
        others = await held_together(model, lane, batch(1), batch(2, 3), batch(4))
        return [done.tolist() for done in await asyncio.gather(*others)]

    assert asyncio.run(run()) == [[1], [2, 3], [4]]
    assert model.seen == [[0], [1, 2, 3, 4]]


def test_everyone_gets_the_columns_they_want(model, lane):
    async def run():
        wants = [frozenset({"z_mean"}), frozenset({"odds", "flags"})]
        model.gate.clear()
        first = asyncio.ensure_future(estimate(lane, batch(0)))
        while not model.in_engine:
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(lane.columns(batch(1), wanted)) for wanted in wants]
        await asyncio.sleep(0)
        model.gate.set()
        await first
        return [set(columns) for columns in await asyncio.gather(*others)] == wants

    assert asyncio.run(run())


def test_no_more_rows_than_allowed_travel_together(model, lane):
    async def run():
        await asyncio.gather(*await held_together(model, lane, *(batch(i, i) for i in range(1, 8))))

    asyncio.run(run())
    assert [len(rows) for rows in model.seen] == [1, 8, 6]


def test_a_large_request_comes_back_whole_and_in_order(model, lane):
    values = np.random.default_rng(0).permutation(200)
    values = values[(values != 13) & (values != 14)].tolist()
    assert asyncio.run(estimate(lane, batch(*values))).tolist() == values


def test_a_small_request_passes_between_the_parts_of_a_large_one(model, lane):
    async def run():
        model.gate.clear()
        large = asyncio.ensure_future(estimate(lane, batch(*range(100, 260))))
        while not model.in_engine:
            await asyncio.sleep(0.001)
        small = asyncio.ensure_future(estimate(lane, batch(1)))
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(large, small)

    asyncio.run(run())
    before = next(i for i, rows in enumerate(model.seen) if 1 in rows)
    assert before <= 4 < len(model.seen) - 10


@pytest.mark.parametrize("attempt", range(20))  # whichever of the two threads is quicker
def test_a_failure_is_told_though_nobody_else_comes(model, lane, attempt):
    async def run():
        others = await held_together(model, lane, batch(13), batch(1))
        return await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)

    failed, good = asyncio.run(run())
    assert isinstance(failed, ValueError)
    assert good.tolist() == [1]


@pytest.mark.parametrize(("bad", "kind"), [(13, ValueError), (14, RuntimeError)])
def test_what_fails_fails_alone(model, lane, bad, kind):
    async def run():
        others = await held_together(model, lane, batch(1), batch(bad), batch(2))
        return await asyncio.gather(*others, return_exceptions=True)

    first, failed, last = asyncio.run(run())
    assert first.tolist() == [1]
    assert last.tolist() == [2]
    assert isinstance(failed, kind)


def test_a_caller_who_has_gone_leaves_the_lane_to_the_others(model, lane):
    async def run():
        gone, stays = await held_together(model, lane, batch(5), batch(6))
        gone.cancel()
        return await stays

    assert asyncio.run(run()).tolist() == [6]
    assert asyncio.run(estimate(lane, batch(7))).tolist() == [7]


def test_one_batch_is_in_the_engine_while_the_one_before_is_summarised(model):
    second_was_inferred = threading.Event()

    def infer(batch):
        values = model.infer(batch)
        if 21 in values:
            second_was_inferred.set()
        return values

    def summarise(batch, output, wanted):
        assert 20 not in output or second_was_inferred.wait(5)
        return {"z_mean": output}

    lane = Lane(infer, summarise, rows=1)

    async def run():
        await asyncio.gather(*(estimate(lane, batch(i)) for i in range(20, 26)))

    asyncio.run(run())
    assert model.most == 1


def test_the_lane_outlives_a_loop_that_was_closed(model, lane):
    async def leave():
        model.gate.clear()
        asyncio.ensure_future(estimate(lane, batch(1)))
        while not model.in_engine:
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    model.gate.set()
    values = list(range(20, 20 + 2 * ROWS))
    assert asyncio.run(estimate(lane, batch(*values))).tolist() == values
