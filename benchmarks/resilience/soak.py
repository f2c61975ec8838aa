"""Load the service for a long time below its capacity: no error, no growth, no slowing down.

The capacity for a mix of requests is measured first: single cutouts, 64 at once, files, and scrapes of the metrics.
Then that mix comes at random (Poisson) at a share of that rate; each answer is compared with the reference. The memory
is that of all processes of the service.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness.http_client import now
from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import sampled
from benchmarks.resilience.clients import RequestLog, capacity, raw_load
from benchmarks.resilience.known_answers import Mix, Reference

SHARE = 0.7  # of the capacity
CLIENTS = 64
WARM_UP = 180.0  # seconds, at most a quarter of the run
WINDOW = 300.0  # seconds at both ends that are compared, at most a third of what follows the warm-up
SAMPLE = 5.0  # seconds between two measurements of the memory

Samples = Sequence[tuple[float, float]]  # memory: seconds since the start, MB


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--capacity-seconds", type=float, default=15.0)


def soak(server: Server, options: argparse.Namespace) -> tuple[list[Result], dict[str, Any]]:
    """Measure the capacity, then load below it; return the results and what else goes into the record."""
    port, log = server.recipe.port, RequestLog()
    mix = Mix(Reference.ask(port, server.recipe.path), options.seed)
    rate = SHARE * capacity(port, mix, options.capacity_seconds)
    start = now()
    with sampled(server.memory_mb, SAMPLE) as memory, raw_load(port, mix, rate, options.seed, log, CLIENTS):
        while (left := start + options.seconds - now()) > 0:
            time.sleep(min(left, 60.0))
            print(f"{len(log.answers)} right answers, {len(log.failures)} failures, {memory[-1][1]:.1f} MB", flush=True)
    kinds = Counter(answer.kind for answer in log.answers)
    results = [
        *results_of(log, start, memory, options.seconds),
        reported("requests/s", len(log.answers) / options.seconds),
        reported("tracebacks and errors in the service's log", len(server.errors())),
    ]
    return results, {"memory": memory, "kinds": kinds, "failures": log.examples(100, start)}


def results_of(log: RequestLog, start: float, memory: Samples, seconds: float) -> list[Result]:
    """Sum up a run."""
    warm = min(WARM_UP, seconds / 4)
    window = min(WINDOW, (seconds - warm) / 3)
    settled = [(at / 3600, mb) for at, mb in memory if at >= warm]
    growth, error = slope(*zip(*settled, strict=True)) if len(settled) > 2 else (None, None)
    first, last = (p99_ms(log, start + begin, start + begin + window) for begin in (warm, seconds - window))
    return [
        at_most("requests without the right answer", len(log.failures), 0),
        at_least("requests answered rightly", len(log.answers), 1),
        at_most("slope of the memory after warm-up, MB/hour", growth, 1.0),
        reported("... its standard error, MB/hour", error),
        at_most("p99 of the last window, of that of the first", last / first, 1.2),
        reported("p99 of the first window, ms", first),
        reported("p99 of the last window, ms", last),
        reported("memory after warm-up, MB", settled[0][1] if settled else None),
        reported("memory at the end, MB", settled[-1][1] if settled else None),
        reported("largest difference from the reference", log.difference),
    ]


def p99_ms(log: RequestLog, begin: float, end: float) -> float:
    """Return the 99th percentile of the times of the requests that were sent between two times."""
    times = [answer.took_s for answer in log.answers if begin <= answer.asked_at < end]
    return 1e3 * float(np.percentile(times, 99)) if times else np.inf


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Fit a line through at least three points; return its slope and the standard error for independent scatter."""
    (gradient, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(gradient), float(np.sqrt(covariance[0, 0]))


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        results, details = soak(server, options)
    print(*details["failures"][:10], sep="\n")
    return conclude(options, results, details)
