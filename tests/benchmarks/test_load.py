"""The load generator: its arithmetic on times with known answers, its loops, and a server that answers wrongly."""

import contextlib
import threading

import numpy as np
import pytest

from benchmarks.harness.http_client import now
from benchmarks.harness.load import Exchange, Load, summarise, summarise_refusals
from benchmarks.harness.messages import FORMS, BadReply
from benchmarks.harness.threads import arrivals, open_loop
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
    both = threading.Barrier(2, timeout=5)
    open_loop(lambda at: both.wait(), 2, [now(), now()])
    with pytest.raises(ZeroDivisionError):
        open_loop(lambda at: at / 0, 2, [now()])


RIGHT = (200, PDF.tobytes() * 64)
OTHER = (200, np.eye(1, 180, dtype=np.float32).tobytes() * 64)


@pytest.fixture
def load():
    """Return a function that makes a load on a server with these answers, of which the first is to its check."""
    with contextlib.ExitStack() as stack:

        def make(*answers, tolerant=False):
            left = iter(answers)
            port = stack.enter_context(serving(lambda path: next(left)))
            return Load(FORMS["raw"], port, "/", 64, tolerant=tolerant)

        yield make


def test_another_answer_or_status_ends_the_run(load):
    with pytest.raises(BadReply, match="sums are 1"):
        load((200, bytes(64 * 720)))
    changing, failing = load(RIGHT, OTHER), load(RIGHT, (503, b""))
    changing.ask(now())
    with pytest.raises(BadReply, match="other PDFs"):
        changing.close()
    for step in (lambda: failing.ask(now()), failing.close):
        with pytest.raises(BadReply, match="503"):
            step()


def test_a_tolerant_load_counts_them(load):
    tolerant = load(RIGHT, OTHER, (429, b""), RIGHT, tolerant=True)
    for _ in range(3):
        tolerant.ask(now())
    tolerant.close()
    outcomes = [one.outcome for one in tolerant.exchanges]
    assert outcomes == ["200 with another answer", "429 without Retry-After", "200"]
