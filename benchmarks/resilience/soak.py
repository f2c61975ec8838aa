"""Load the service for a long time below its capacity: no error, no growth, no slowing down.

The capacity for a mix of requests is measured first: single cutouts, 64 at once, files, and scrapes of the metrics.
Then that mix comes at random (Poisson) at a share of that rate; each answer is compared with the reference, and its
time counts from when the request was due. The memory is that of all processes of the service.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness.http_client import now
from benchmarks.harness.processes import Server, rss_mb, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import arrivals, open_loop, sampled
from benchmarks.resilience.known_answers import Mix, Reference
from benchmarks.resilience.load_clients import ClientPool, RequestLog, capacity

SHARE = 0.7  # of the capacity
CONNECTIONS = 64
IDLE = 30.0  # seconds after which a client closes a connection that it has not used: the service has to keep it so long
WARM_UP = 180.0  # seconds, at most a quarter of the run
WINDOW = 300.0  # seconds at both ends that are compared, at most a third of what follows the warm-up
SAMPLE = 5.0  # seconds between two measurements of the memory

Samples = Sequence[tuple[float, float]]  # memory: seconds since the start, MB


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--capacity-seconds", type=float, default=15.0)


def soak(server: Server, options: argparse.Namespace) -> tuple[list[Result], dict[str, Any]]:
    """Measure the capacity, then load below it; return the results and what else goes into the record."""
    port, seconds, log = server.recipe.port, options.seconds, RequestLog()
    mix = Mix(Reference.ask(port, server.recipe.path), options.seed)
    most = capacity(port, mix, options.capacity_seconds)
    pool, start = ClientPool(port, log, IDLE), now()
    with sampled(lambda: _measure(server, log), SAMPLE) as memory:
        due = arrivals(SHARE * most, start, start + seconds)
        open_loop(lambda at: pool.ask(mix.choose(), at), CONNECTIONS, due)
    kinds = Counter(answer.kind for answer in log.answers)
    kept = {"memory": memory, "kinds": kinds, "failures": log.examples(100, start)}
    more = [
        reported("capacity for this mix, requests/s", most),
        reported("offered, requests/s", SHARE * most),
        reported("tracebacks and errors in the service's log", len(server.errors())),
    ]
    return results_of(log, start, memory, seconds) + more, kept


def _measure(server: Server, log: RequestLog) -> float:
    rss = rss_mb(server.processes())
    print(f"{len(log.answers)} right answers, {len(log.failures)} failures, {rss:.1f} MB", flush=True)
    return rss


def times(log: RequestLog, begin: float, end: float) -> list[float]:
    """Return how long the requests took that were due between two times."""
    return [one.took_s for one in log.answers if begin <= one.asked_at < end]


def results_of(log: RequestLog, start: float, memory: Samples, seconds: float) -> list[Result]:
    """Sum up a run of so many seconds."""
    warm = min(WARM_UP, seconds / 4)
    window = min(WINDOW, (seconds - warm) / 3)
    settled = [(at / 3600, rss) for at, rss in memory if at >= warm]
    growth, error = slope(*zip(*settled, strict=True)) if len(settled) > 2 else (None, None)
    windows = [times(log, start + begin, start + begin + window) for begin in (warm, seconds - window)]
    first, last = (1e3 * float(np.percentile(took, 99)) if took else np.inf for took in windows)
    return [
        at_most("requests without the right answer", len(log.failures), 0),
        at_least("requests answered rightly", len(log.answers), 1),
        at_most("slope of the memory after warm-up, MB/hour", growth, 1.0),
        reported("... its standard error, MB/hour", error),
        at_most("p99 of the last window, of that of the first", last / first, 1.2),
        reported("p99 of the first window, ms", first),
        reported("p99 of the last window, ms", last),
        reported("RSS after warm-up, MB", settled[0][1] if settled else None),
        reported("RSS at the end, MB", settled[-1][1] if settled else None),
        reported("largest difference from the reference", log.difference),
    ]


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Fit a line through at least three points; return its slope and the standard error for independent scatter."""
    (found, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(found), float(np.sqrt(covariance[0, 0]))


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        results, kept = soak(server, options)
    print(*kept["failures"][:10], sep="\n")
    return conclude(options, results, kept)
