"""Servers in turns: each is started afresh in each round, measured and ended."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness.environment import ROOT, SHIPPED
from benchmarks.harness.processes import Recipe, Server, running
from benchmarks.harness.threads import sampled

BUNDLES = (SHIPPED, ROOT / "runs" / "bundles" / "inception")  # the second if it exists
BATCHES = "images/s, 64 cutouts a request by one client"
SINGLES = "images/s, single cutouts by 32 clients"
LOADS = {BATCHES: (1, 64), SINGLES: (32, 1)}  # clients, cutouts in a request
FULL = ", estimates and flags too"  # of a load of the service
START, MEMORY = "seconds to the first answer", "memory of all processes under load, MB"
SINGLE = "p50 of a single cutout by one client, ms"
MEMORY_EVERY = 0.05  # seconds

Measured = dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, with the options that all comparisons have."""
    parser.add_argument("--bundle", type=Path, action="append", help="default: the shipped one and inception")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of one second: whether it works, not how fast")
    options = parser.parse_args()
    options.bundle = options.bundle or [path for path in BUNDLES if path.exists()]
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def measure(recipe: Recipe, seconds: float, check: Callable[[Server], None] | None = None) -> Measured:
    """Start a server, check its answers, and put load on it."""
    measured = {}
    with running(recipe) as server:
        if check:
            check(server)
        server.load(4, 64, 1.0)  # warm up
        with sampled(server.memory_mb, MEMORY_EVERY) as memory:
            for what, load in LOADS.items():
                measured[what] = server.load(*load, seconds)["images_per_s"]
                if recipe.form == "v2":
                    measured[what + FULL] = server.load(*load, seconds, "v2-full")["images_per_s"]
        measured[SINGLE] = server.load(1, 1, seconds)["p50_ms"]
        return measured | {START: server.start_s, MEMORY: max(mb for _, mb in memory)}


def measure_in_turns(
    recipes: Mapping[str, Recipe], options: argparse.Namespace, checks: Mapping[str, Callable[[Server], None]] = {}
) -> list[dict[str, Measured]]:
    """Measure all in each round, beginning with another one each time; return what was measured, by name."""
    rounds = []
    for number in range(options.rounds):
        first = number % len(recipes)
        order = [*recipes][first:] + [*recipes][:first]
        rounds.append({name: measure(recipes[name], options.seconds, checks.get(name)) for name in order})
        print(f"round {number + 1}: {rounds[-1]}", flush=True)
    return rounds
