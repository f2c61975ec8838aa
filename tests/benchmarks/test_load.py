"""The load generator: its arithmetic on times with known answers, its loops, and a server that answers wrongly."""

import asyncio
import contextlib

import numpy as np
import pytest

from benchmarks.harness.http_client import Lost, now
from benchmarks.harness.load import Exchange, Load, open_loop, summarise, summarise_refusals
from benchmarks.harness.messages import FORMS, BadReply
from benchmarks.harness.threads import arrivals
from tests.benchmarks.servers import serving

PDF = np.full(180, 1 / 180, np.float32)


def test_steady_requests_give_their_rate_and_times():
    # One client, 0.1 s a request, each due when the one before is answered, 4 images in each.
    exchanges = [Exchange(0.1 * i, 0.1 * i, 0.1 * i, 0.1 * (i + 1)) for i in range(100)]
    found = summarise(exchanges, images=4, start=2.0, end=8.0)
    assert (found["images_per_s"], found["requests"], found["late_p99_ms"]) == pytest.approx((40, 60, 0))
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == pytest.approx((100, 100, 100))


def test_a_request_across_an_edge_counts_in_part():
    exchanges = [Exchange(at, at, at, at + 2.0) for at in (0.0, 2.0, 4.0)]
    found = summarise(exchanges, images=1, start=1.0, end=4.5)
    assert found["images_per_s"] == pytest.approx((0.5 + 1 + 0.25) / 3.5)
    assert found["requests"] == 2  # the first was due before


def test_time_counts_from_when_a_request_was_due():
    # A server that answers in 10 ms once it is asked, and was asked late.
    exchanges = [Exchange(0.0, 0.3, 0.3, 0.31), Exchange(0.1, 0.31, 0.31, 0.32)]
    found = summarise(exchanges, images=1, start=0.0, end=1.0)
    assert (found["max_ms"], found["p50_ms"]) == pytest.approx((310, (310 + 220) / 2))
    assert found["late_p99_ms"] == pytest.approx(300, rel=0.01)


def test_refusals_and_failures_are_counted_and_are_no_goodput():
    outcomes = ["200", "429", "429 without Retry-After", "200 with another answer", "503", "Lost: end of connection"]
    exchanges = [Exchange(0.0, 0.0, 0.5, 0.6, outcome) for outcome in outcomes] + [Exchange(0.0, 9.0, 9.0, 9.1)]
    found = summarise_refusals(exchanges, end=2.0)
    assert [found[name] for name in ("refused", "without_retry_after", "wrong", "failed")] == [2, 1, 1, 2]
    assert found["sent_too_late"] == 1
    assert found["refused_p99_ms"] == pytest.approx(100)
    assert summarise(exchanges, images=1, start=0.0, end=2.0)["requests"] == 2


def test_arrivals_have_the_rate_that_is_asked_for_and_come_at_random():
    times = np.array(arrivals(rate=500.0, start=10.0, end=50.0))
    gaps = np.diff(times)
    assert 10.0 < times[0] < times[-1] < 50.0
    assert len(times) == pytest.approx(500 * 40, rel=0.03)  # sqrt(20,000) is 0.7 % of it
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as of an exponential distribution


def test_an_open_loop_does_not_wait_for_answers_and_raises_what_a_call_raised():
    begun = []

    async def wait_for_the_other(at):
        begun.append(at)
        while len(begun) < 2:
            await asyncio.sleep(0.001)

    async def fail(at):
        raise BadReply

    asyncio.run(asyncio.wait_for(open_loop(wait_for_the_other, 2, [now(), now()]), 5))
    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(open_loop(fail, 2, [now()]))
    assert raised.group_contains(BadReply)


RIGHT = (200, PDF.tobytes() * 64)
OTHER = (200, np.eye(1, 180, dtype=np.float32).tobytes() * 64)


def run_load(*answers, asked, tolerant=False):
    """Ask a server with these answers, of which the first is to the check, and return what became of the requests."""

    async def ask():
        await load.ask_first()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.sleep, 0.01)  # in which the event loop closes the connections
            stack.callback(load.close)
            for _ in range(asked):
                await load.ask(now())

    left = iter(answers)
    with serving(lambda path: next(left)) as port:
        load = Load(FORMS["raw"], port, "/", 64, tolerant=tolerant)
        asyncio.run(ask())
    return [one.outcome for one in load.exchanges]


def test_another_answer_or_status_ends_the_run():
    with pytest.raises(BadReply, match="sums are 1"):
        run_load((200, bytes(64 * 720)), asked=0)
    with pytest.raises(BadReply, match="other PDFs"):
        run_load(RIGHT, OTHER, asked=1)
    with pytest.raises(BadReply, match="503"):
        run_load(RIGHT, (503, b""), asked=1)


def test_a_tolerant_load_counts_them():
    outcomes = run_load(RIGHT, OTHER, (429, b""), RIGHT, asked=3, tolerant=True)
    assert outcomes == ["200 with another answer", "429 without Retry-After", "200"]


def test_a_lost_connection_ends_the_run_or_is_counted():
    def die(path):
        raise ConnectionAbortedError

    with serving(die) as port:
        for tolerant in (False, True):
            load = Load(FORMS["raw"], port, "/", 64, tolerant=tolerant)
            with contextlib.nullcontext() if tolerant else pytest.raises(Lost, match="end of connection|while waiting"):
                asyncio.run(load.ask(now()))
    assert [one.outcome.partition(":")[0] for one in load.exchanges] == ["Lost"]
