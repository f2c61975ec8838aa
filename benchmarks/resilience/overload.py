"""Offer twice the service's capacity: it must not serve less for that, and must refuse the rest at once.

The capacity is measured first, with clients that wait for their answers. Then requests come at random at twice that
rate, whether or not they can be met, from one process on the same cores: its processor time is reported. The time of a
served request counts from when it was due, that of a refusal from when the last byte of the request had been sent.
"""

import argparse
from typing import Any

from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Threshold, at_least, at_most, conclude, reported

LOADS = {"singles": (1, 32, 512), "batches": (64, 4, 256)}  # cutouts, clients for the capacity, connections at most
TIMES = 2.0  # the capacity
WARM_UP = 10.0  # seconds of overload before the measured ones: the service then has as much in hand as it accepts

REPORTED = ("capacity_before", "capacity_after", "goodput", "p50_ms", "p99_ms", "late_p99_ms", "generator_cores")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")


def thresholds(name: str) -> tuple[Threshold, ...]:
    """Return the thresholds for one kind of requests."""
    return (
        at_least(f"{name}: goodput, of the capacity", f"{name}_goodput_share", 0.9),
        at_least(f"{name}: refused with 429", f"{name}_refused", 1),
        at_most(f"{name}: p99 of refusals from the last byte, ms", f"{name}_refused_p99_ms", 50),
        at_most(f"{name}: refusals without Retry-After", f"{name}_without_retry_after", 0),
        at_most(f"{name}: requests lost, or answered otherwise", f"{name}_failed", 0),
        at_most(f"{name}: answers with other values", f"{name}_wrong", 0),
        at_most(f"{name}: requests sent too late: all connections waited", f"{name}_never_sent", 0),
        *(reported(f"{name}: {column}", f"{name}_{column}") for column in REPORTED),
    )


def measure(server: Server, name: str, seconds: float) -> dict[str, Any]:
    """Measure the capacity, then offer twice as much."""
    n, clients, connections = LOADS[name]
    before = server.load(clients, n, seconds)["images_per_s"]
    offered = {"rate": TIMES * before / n, "warm-up": WARM_UP, "refusals": True}
    found = server.load(connections, n, seconds, **offered)
    after = server.load(clients, n, seconds)["images_per_s"]
    print(f"{name}: {found['outcomes']}", flush=True)
    goodput, cores = found.pop("images_per_s"), found.pop("generator_s") / (seconds + WARM_UP)
    found |= {"goodput": goodput, "goodput_share": goodput / before, "generator_cores": cores}
    return found | {"capacity_before": before, "capacity_after": after}


def run(options: argparse.Namespace) -> int:
    figures: dict[str, float] = {}
    outcomes: dict[str, dict[str, int]] = {}
    with running(service(options.bundle)) as server:
        for name in LOADS:
            found = measure(server, name, options.seconds)
            outcomes[name] = found.pop("outcomes")
            figures |= {f"{name}_{column}": value for column, value in found.items()}
    limits = [one for name in LOADS for one in thresholds(name)]
    return conclude("overload", options, figures, limits, {"outcomes": outcomes})
