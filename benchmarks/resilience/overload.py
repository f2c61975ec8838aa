"""Offer twice the service's capacity: it must not serve less for that, and must refuse the rest at once.

The capacity is measured before and after each overload, by clients that wait for their answers, since the speed of a
machine may change. h2load then offers twice that rate from the same processors.
"""

import argparse
from statistics import fmean

from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported

# Cutouts in a request, clients for the capacity, connections of the overload.
LOADS = {"singles": (1, 32, 512), "batches": (64, 4, 256)}
TIMES = 2.0  # the capacity
ROUNDS = 9

Round = dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")


def results_of(name: str, rounds: list[Round]) -> list[Result]:
    """Judge the rounds of one kind of requests."""

    def column(key: str) -> list[float]:
        return [measured.get(key, float("inf")) for measured in rounds]

    return [
        at_least(f"{name}: goodput, of the capacity", column("goodput"), 0.9),
        at_least(f"{name}: refused with 429, a second", column("refused"), 1),
        at_most(f"{name}: p99 of refusals, ms", column("refused_p99_ms"), 50),
        reported(f"{name}: capacity, requests/s", column("capacity")),
        reported(f"{name}: p99 of what is served, ms", column("p99_ms")),
    ]


def measure(server: Server, name: str, seconds: float) -> list[Round]:
    """Offer twice the capacity that was just measured; any status but 200 and 429 ends the program."""
    images, clients, connections = LOADS[name]
    rounds, before = [], server.load(clients, images, seconds)["requests"]
    for _ in range(ROUNDS):
        measured = server.load(connections, images, seconds, rate=TIMES * before, statuses=(200, 429))
        after = server.load(clients, images, seconds)["requests"]
        capacity, before = fmean((before, after)), after
        rounds.append(measured | {"capacity": capacity, "goodput": measured["requests"] / capacity})
        print(f"{name}: {rounds[-1]}", flush=True)
    return rounds


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        rounds = {name: measure(server, name, options.seconds) for name in LOADS}
    return conclude(options, [result for name in LOADS for result in results_of(name, rounds[name])], rounds)
