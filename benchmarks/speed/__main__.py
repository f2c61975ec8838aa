"""`make bench`: the speed of the service, of its engine alone and of Keras, and what the service needs.

    python -m benchmarks.speed [--against PATH] [--bundle DIR ...] [--rounds N] [--seconds S] [--quick]

With --against the service of another checkout, with its own bundle, is measured in turns with that of this one, and the
ratios are taken within each round. Writes benchmarks/results/bench.json.
"""

import argparse
import sys
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.processes import service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.speed.inprocess import InProcess
from benchmarks.speed.servers import LOADS, add_options, measure_in_turns
from photoz.model.bundle import ModelBundle

BATCH = 64
WORSE = 0.03  # the fraction by which this checkout may be worse than the other
THIS, OTHER = "this checkout", "the other"


def compare(path: Path, options: argparse.Namespace, label: str) -> list[Result]:
    """Measure the service, and that of another checkout: their numbers, and the ratios of the first to the second."""
    recipes = {THIS: service(path)}
    if options.against:
        checkout = options.against.resolve()
        recipes[OTHER] = replace(service(checkout / path.resolve().relative_to(ROOT)), checkout=checkout)
    rounds = measure_in_turns(recipes, options)
    results = [
        reported(f"{label}, {name}: {what}", [measured[name][what] for measured in rounds])
        for name in recipes
        for what in rounds[0][name]
    ]
    for what in rounds[0][THIS] if options.against else ():
        ratios = [measured[THIS][what] / measured[OTHER][what] for measured in rounds]
        judge, limit = (at_least, 1 - WORSE) if what.startswith(tuple(LOADS)) else (at_most, 1 + WORSE)
        results.append(judge(f"{label}: {what}: {THIS} over {OTHER}", ratios, limit))
    return results


def measure_networks(bundle: Path, options: argparse.Namespace, label: str) -> list[Result]:
    """Measure the engine and Keras alone, in turns."""
    rates = defaultdict(list)
    with ExitStack() as stack:
        networks = {kind: stack.enter_context(closing(InProcess(kind, bundle))) for kind in ("engine", "keras")}
        for _ in range(options.rounds):
            for kind, network in networks.items():
                rates[kind].append(network.measure(BATCH, options.seconds))
    return [reported(f"{label}: images/s, {kind} alone, batches of {BATCH}", rates[kind]) for kind in networks]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--output", type=Path, default=RESULTS / "bench.json", help="of the record")
    options = add_options(parser)
    options.program, results = "speed", []
    for path in options.bundle:
        label = ModelBundle.load(path).card.architecture.name
        results += compare(path, options, label)
        results += [] if options.against else measure_networks(path, options, label)
    return conclude(options, results, {})


if __name__ == "__main__":
    sys.exit(main())
