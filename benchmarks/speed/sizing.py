"""Throughput of one instance by its processors, and of two with one each: `python -m benchmarks.speed.sizing`.

Instances are held to their processors (Linux's `taskset`); the load generators run on any of them. All are started, and
take turns. Writes `results/sizing.json` and prints a table.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.harness.environment import CPUS, RESULTS, SHIPPED, describe
from benchmarks.harness.processes import Recipe, Server, running, service
from benchmarks.harness.results import Spread, table, write_record

LOADS = {"4 callers, 64 cutouts a request": (4, 64), "32 callers, single cutouts": (32, 1)}

# Instances and processors of each: one with one processor, one with all, and as many instances as processors.
SIZES = [(1, 1)] if CPUS == 1 else [(1, 1), (1, CPUS), (CPUS, 1)]


def recipes(bundle: Path, instances: int, cpus: int) -> list[Recipe]:
    """Return the recipes of instances with processors of their own."""
    usable, found = sorted(os.sched_getaffinity(0)), []
    for i in range(instances):
        recipe = service(bundle, PHOTOZ_THREADS=str(cpus))
        own = ",".join(str(cpu) for cpu in usable[i * cpus : (i + 1) * cpus])
        found.append(replace(recipe, command=("taskset", "--cpu-list", own, *recipe.command)))
    return found


def measure(servers: Sequence[Server], seconds: float) -> dict[str, float]:
    """Put each kind of load on all instances at once; return the images per second of all together."""
    rates = {}
    for name, (clients, images) in LOADS.items():
        share = -(-clients // len(servers))
        with ThreadPoolExecutor(len(servers)) as pool, ExitStack() as awake:
            for server in servers:
                awake.enter_context(server.awake())
            loads = [pool.submit(server.load, share, images, seconds) for server in servers]
            rates[name] = sum(load.result()["images_per_s"] for load in loads)
    return rates


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.sizing", description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=SHIPPED)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    options = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    with ExitStack() as stack:
        started = {}
        for size in SIZES:
            made = recipes(options.bundle, *size)
            started[f"{size[0]} x {size[1]}"] = [stack.enter_context(running(recipe)) for recipe in made]
        for server in (server for servers in started.values() for server in servers):
            server.suspend()
        for number in range(options.rounds + 1):  # in the first they warm up
            rounds.append({size: measure(servers, options.seconds) for size, servers in started.items()})
            print(f"round {number} of {options.rounds}: {rounds[-1]}", file=sys.stderr)
    del rounds[0]
    found = {size: {name: Spread.of([one[size][name] for one in rounds]) for name in LOADS} for size in started}
    rows = ((size, *(spread.text(".0f") for spread in rates.values())) for size, rates in found.items())
    print(f"{describe()}\n{table(('images/s', *LOADS), rows)}")
    sizes = {size: {name: asdict(spread) for name, spread in rates.items()} for size, rates in found.items()}
    write_record(RESULTS / "sizing.json", describe(), {"sizes": sizes, "rounds": rounds})


if __name__ == "__main__":
    main()
