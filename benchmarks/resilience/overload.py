"""Offer twice the service's capacity: it must not serve less for that, and must refuse the rest at once.

The capacity is measured first, with clients that wait for their answers. Then requests come at random at twice that
rate, whether or not they can be met, from one process on the same cores: its processor time is reported. The time of a
served request counts from when it was due, that of a refusal from when the last byte of the request had been sent.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported

LOADS = {"singles": (1, 32, 512), "batches": (64, 4, 256)}  # cutouts, clients for the capacity, connections at most
TIMES = 2.0  # the capacity
WARM_UP = 10.0  # seconds of overload before the measured ones: the service then has as much in hand as it accepts

REPORTED = ("capacity_before", "capacity_after", "images_per_s", "p50_ms", "p99_ms", "late_p99_ms", "generator_cores")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")


def results_of(name: str, found: Mapping[str, float]) -> list[Result]:
    """Judge what was found for one kind of requests."""
    return [
        at_least(f"{name}: goodput, of the capacity", found["images_per_s"] / found["capacity_before"], 0.9),
        at_least(f"{name}: refused with 429", found["refused"], 1),
        at_most(f"{name}: p99 of refusals from the last byte, ms", found.get("refused_p99_ms"), 50),
        at_most(f"{name}: refusals without Retry-After", found["without_retry_after"], 0),
        at_most(f"{name}: requests lost, or answered otherwise", found["failed"], 0),
        at_most(f"{name}: answers with other values", found["wrong"], 0),
        at_most(f"{name}: requests sent too late, since all connections waited", found["sent_too_late"], 0),
        *(reported(f"{name}: {column}", found[column]) for column in REPORTED),
    ]


def measure(server: Server, name: str, seconds: float) -> dict[str, Any]:
    """Measure the capacity, then offer twice as much."""
    n, clients, connections = LOADS[name]
    before = server.load(clients, n, seconds)["images_per_s"]
    found = server.load(connections, n, seconds, rate=TIMES * before / n, warm_up=WARM_UP, tolerant=True)
    print(f"{name}: {found['outcomes']}", flush=True)
    found["generator_cores"] = found["generator_s"] / (seconds + WARM_UP)
    after = server.load(clients, n, seconds)["images_per_s"]
    return found | {"capacity_before": before, "capacity_after": after}


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        found = {name: measure(server, name, options.seconds) for name in LOADS}
    results = [result for name in LOADS for result in results_of(name, found[name])]
    return conclude(options, results, found)
