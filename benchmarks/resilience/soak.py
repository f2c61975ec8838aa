"""Load the service for a long time below its capacity: no error, no growth, no slowing down.

The capacity for a mix of requests is measured first: single cutouts, 64 at once, files, and scrapes of the metrics.
Then that mix comes at random (Poisson) at a share of that rate; each answer is compared with the reference, and its
time counts from when the request was due. The memory is that of all processes of the service.
"""

import argparse
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.harness.http_client import now
from benchmarks.harness.load import arrivals, open_loop
from benchmarks.harness.processes import Server, rss_mb, running, service
from benchmarks.harness.results import at_least, at_most, conclude, reported
from benchmarks.resilience.known_answers import Mix, Reference
from benchmarks.resilience.load_clients import ClientPool, RequestLog, capacity
from benchmarks.resilience.logs import errors_in

SHARE = 0.7  # of the capacity
CONNECTIONS = 64
IDLE = 30.0  # seconds after which a client closes a connection that it has not used: the service has to keep it so long
WARM_UP = 180.0  # seconds, at most a quarter of the run
WINDOW = 300.0  # seconds at both ends that are compared, at most a third of what follows the warm-up
STEP = 30.0  # seconds of a row of the time series
SAMPLE = 5.0  # seconds between two measurements of the memory

THRESHOLDS = (
    at_most("requests without the right answer", "failed", 0),
    at_least("requests answered rightly", "right", 1),
    at_most("slope of the memory after warm-up, MB/hour", "slope_mb_per_hour", 1.0),
    reported("... its standard error, MB/hour", "slope_error_mb_per_hour"),
    at_most("p99 of the last window, of that of the first", "p99_ratio", 1.2),
    reported("p99 of the first window, ms", "p99_first_ms"),
    reported("p99 of the last window, ms", "p99_last_ms"),
    reported("RSS after warm-up, MB", "rss_warm_mb"),
    reported("RSS at the end, MB", "rss_end_mb"),
    reported("capacity for this mix, requests/s", "capacity"),
    reported("offered, requests/s", "rate"),
    reported("largest difference from the reference", "largest_difference"),
    reported("tracebacks and errors in the service's log", "log_errors"),
)


@dataclass
class Record:
    """What came of the requests, and the memory as (seconds since the start, MB)."""

    start: float
    log: RequestLog = field(default_factory=RequestLog)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def times(self, begin: float, end: float) -> list[float]:
        """Return how long the requests took that were due between these seconds."""
        due = ((one.asked_at - self.start, one) for one in self.log.answers)
        return [one.answered_at - one.asked_at for at, one in due if begin <= at < end]

    def row(self, begin: float, end: float) -> dict[str, float]:
        """Return a row of the time series."""
        took, memory = self.times(begin, end), [rss for at, rss in self.memory if begin <= at < end]
        p50, p99 = 1e3 * np.percentile(took, (50, 99)) if took else (np.nan, np.nan)
        row = {"at_s": begin, "rss_mb": float(np.mean(memory)) if memory else np.nan, "p50_ms": p50, "p99_ms": p99}
        return {name: round(float(value), 2) for name, value in row.items()} | {"requests": len(took)}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--capacity-seconds", type=float, default=15.0)


def soak(server: Server, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure the capacity, then load below it; return the figures and what else goes into the record."""
    port, seconds = server.recipe.port, options.seconds
    mix = Mix(Reference.ask(port, server.recipe.path), options.seed)
    most = capacity(port, mix, options.capacity_seconds)
    record, done = Record(now()), threading.Event()
    pool = ClientPool(port, record.log, IDLE)
    sampler = threading.Thread(target=_sample, args=(server, record, done))
    sampler.start()
    due = arrivals(SHARE * most, record.start, record.start + seconds)
    try:
        open_loop(lambda at: pool.ask(mix.choose(), at), CONNECTIONS, due)
    finally:
        done.set()
        sampler.join()
    figures = figures_of(record, seconds) | {"capacity": most, "rate": SHARE * most}
    kinds = dict(Counter(answer.kind for answer in record.log.answers))
    series = [record.row(at, at + STEP) for at in np.arange(0.0, seconds, STEP)]
    kept = {"series": series, "kinds": kinds, "failures": record.log.examples(100, record.start)}
    return figures | {"log_errors": errors_in(server.log.read_text(errors="replace"))}, kept


def _sample(server: Server, record: Record, done: threading.Event) -> None:
    while not done.wait(SAMPLE):
        record.memory.append((now() - record.start, rss_mb(server.processes())))
        if len(record.memory) % 6 == 0:
            at, rss = record.memory[-1]
            answers, failures = len(record.log.answers), len(record.log.failures)
            print(f"{at:.0f} s: {answers} right answers, {failures} failures, {rss:.1f} MB", flush=True)


def figures_of(record: Record, seconds: float) -> dict[str, float]:
    """Sum up a run of so many seconds."""
    log, warm = record.log, min(WARM_UP, seconds / 4)
    window = min(WINDOW, (seconds - warm) / 3)
    figures = {"failed": len(log.failures), "right": len(log.answers), "largest_difference": log.difference}
    memory = [(at / 3600, rss) for at, rss in record.memory if at >= warm]
    if len(memory) > 2:
        figures["slope_mb_per_hour"], figures["slope_error_mb_per_hour"] = slope(*zip(*memory, strict=True))
        figures |= {"rss_warm_mb": memory[0][1], "rss_end_mb": memory[-1][1]}
    for name, begin in (("first", warm), ("last", seconds - window)):
        took = record.times(begin, begin + window)
        figures[f"p99_{name}_ms"] = 1e3 * float(np.percentile(took, 99)) if took else np.inf
    return figures | {"p99_ratio": figures["p99_last_ms"] / figures["p99_first_ms"]}


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Fit a line through at least three points; return its slope and the standard error for independent scatter."""
    (found, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(found), float(np.sqrt(covariance[0, 0]))


def run(options: argparse.Namespace) -> int:
    print(f"seed {options.seed}, {options.seconds:g} s at {SHARE:g} of the capacity")
    with running(service(options.bundle)) as server:
        figures, kept = soak(server, options)
    print(*kept["failures"][:10], sep="\n")
    return conclude("soak", options, figures, THRESHOLDS, kept)
