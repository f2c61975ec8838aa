"""Offer twice the service's capacity: it must not serve less for that, and must refuse the rest at once.

The capacity is measured first, with clients that wait for their answers. Then requests come at random at twice that
rate, whether or not they can be met, from one process on the same cores: its processor time is reported. Both alternate
in short rounds, since the speed of a machine may change. The time of a served request counts from when it was due,
that of a refusal from when the last byte of the request had been sent.
"""

import argparse
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported

LOADS = {"singles": (1, 32, 512), "batches": (64, 4, 256)}  # cutouts, clients for the capacity, connections at most
TIMES = 2.0  # the capacity
ROUNDS = 9
WARM_UP = 3.0  # seconds of overload before the measured ones: the service then has as much in hand as it accepts

REPORTED = ("capacity", "images_per_s", "p50_ms", "p99_ms", "late_p99_ms", "generator_cores")

Round = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")


def results_of(name: str, rounds: Sequence[Round]) -> list[Result]:
    """Judge what was found for one kind of requests, in one or more rounds."""

    def middle(column: str) -> float:
        return median(found.get(column, float("inf")) for found in rounds)

    def total(column: str) -> float:
        return sum(found[column] for found in rounds)

    return [
        at_least(f"{name}: goodput, of the capacity, median", middle("goodput"), 0.9),
        *(reported(f"{name}: ... of round {number}", found["goodput"]) for number, found in enumerate(rounds)),
        at_least(f"{name}: refused with 429", total("refused"), 1),
        at_most(f"{name}: p99 of refusals from the last byte, ms, median", middle("refused_p99_ms"), 50),
        at_most(f"{name}: refusals without Retry-After", total("without_retry_after"), 0),
        at_most(f"{name}: requests lost, or answered otherwise", total("failed"), 0),
        at_most(f"{name}: answers with other values", total("wrong"), 0),
        at_most(f"{name}: requests sent too late, since all connections waited", total("sent_too_late"), 0),
        *(reported(f"{name}: {column}, median", middle(column)) for column in REPORTED),
    ]


def measure(server: Server, name: str, seconds: float) -> list[Round]:
    """Offer twice the capacity that was just measured; the capacity before and after it is what counts."""
    n, clients, connections = LOADS[name]
    measured, before = [], server.load(clients, n, seconds)["images_per_s"]
    for _ in range(ROUNDS):
        found = server.load(connections, n, seconds, rate=TIMES * before / n, warm_up=WARM_UP, tolerant=True)
        print(f"{name}: {found['outcomes']}", flush=True)
        found["generator_cores"] = found["generator_s"] / (seconds + WARM_UP)
        after = server.load(clients, n, seconds)["images_per_s"]
        found["capacity"], before = fmean((before, after)), after
        measured.append(found | {"goodput": found["images_per_s"] / found["capacity"]})
    return measured


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        found = {name: measure(server, name, options.seconds) for name in LOADS}
    results = [result for name in LOADS for result in results_of(name, found[name])]
    return conclude(options, results, found)
