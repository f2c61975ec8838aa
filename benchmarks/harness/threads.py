"""Threads: work in the background, and samples at an interval."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from benchmarks.harness.http_client import now

T = TypeVar("T")


@contextmanager
def background(
    calls: Sequence[Callable[[], object]], stop: threading.Event | None = None
) -> Iterator[list[Future[object]]]:
    """Run calls in a thread each; at the end of the context set `stop`, wait for all, and raise what one raised."""
    with ThreadPoolExecutor(max(len(calls), 1)) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            yield futures
        finally:
            if stop is not None:
                stop.set()
    for future in futures:
        future.result()


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
