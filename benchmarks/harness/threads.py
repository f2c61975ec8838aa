"""Threads for load clients: closed and open loops, work in the background, samples at an interval."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from benchmarks.harness.http_client import now

T = TypeVar("T")


def closed_loop(ask: Callable[[float], object], clients: int, end: float) -> None:
    """Call `ask` with the time from so many threads, again and again until the end."""

    def keep_asking() -> None:
        while (at := now()) < end:
            ask(at)

    with background([keep_asking] * clients):
        pass


def open_loop(ask: Callable[[float], object], clients: int, due: Iterable[float]) -> None:
    """Call `ask` at each of the given times and with it, from at most so many threads; if none is free, it waits."""
    errors: list[Exception] = []

    def ask_once(at: float) -> None:
        try:
            ask(at)
        except Exception as error:  # raised again below
            errors.append(error)

    with ThreadPoolExecutor(clients) as pool:
        for at in due:
            time.sleep(max(at - now(), 0.0))
            if errors:
                break
            pool.submit(ask_once, at)
    if errors:
        raise errors[0]


def arrivals(rate: float, start: float, end: float) -> list[float]:
    """Draw when requests come: a Poisson process of this rate between start and end, the same each time; seconds."""
    rng = np.random.default_rng(0)
    times = start + np.cumsum(rng.exponential(1.0 / rate, int(2 * rate * (end - start)) + 100))
    return [float(at) for at in times[times < end]]


@contextmanager
def background(
    calls: Sequence[Callable[[], object]], stop: threading.Event | None = None
) -> Iterator[list[Future[object]]]:
    """Run calls in a thread each; at the end of the context set `stop`, wait for all, and raise what one raised."""
    with ThreadPoolExecutor(max(len(calls), 1)) as pool:
        running = [pool.submit(call) for call in calls]
        try:
            yield running
        finally:
            if stop is not None:
                stop.set()
    for one in running:
        one.result()


@contextmanager
def sampled(measure: Callable[[], T], every: float) -> Iterator[list[tuple[float, T]]]:
    """Measure at an interval as long as the context lasts; yield the list of (seconds since its start, value)."""
    samples: list[tuple[float, T]] = []
    start, stop = now(), threading.Event()

    def sample() -> None:
        while not stop.is_set():
            samples.append((now() - start, measure()))
            stop.wait(every)

    with background([sample], stop):
        yield samples
