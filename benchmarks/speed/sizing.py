"""Throughput of one instance by its processors, and of two with one each: `python -m benchmarks.speed.sizing`.

Instances are held to their processors (Linux's `taskset`); the load generators run on any of them. All are started, and
take turns. Writes `results/sizing.md` and `.json`.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import arguments
from benchmarks.harness.environment import CPUS, RESULTS, describe
from benchmarks.harness.processes import Recipe, Server, running, service
from benchmarks.harness.results import write_rounds

LOADS = {"4 clients, 64 cutouts a request": (4, 64), "32 clients, single cutouts": (32, 1)}

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


def measure(servers: Sequence[Server], seconds: float) -> dict[str, dict[str, float]]:
    """Put each kind of load on all instances at once; return the images per second of all together."""
    found = {}
    for name, (clients, images) in LOADS.items():
        share = -(-clients // len(servers))
        with ThreadPoolExecutor(len(servers)) as pool, ExitStack() as awake:
            for server in servers:
                awake.enter_context(server.awake())
            loads = [pool.submit(server.load, share, images, seconds) for server in servers]
            found[name] = {"images_per_s": sum(load.result()["images_per_s"] for load in loads)}
    return found


def main() -> None:
    """Measure, print, write."""
    options = arguments.parse("python -m benchmarks.speed.sizing", __doc__, ())
    rounds: list[dict[str, dict[str, float]]] = []
    with ExitStack() as stack:
        started = {}
        for instances, cpus in SIZES:
            made = [stack.enter_context(running(one)) for one in recipes(options.bundle[0], instances, cpus)]
            started[f"{instances} x {cpus}"] = made
        for server in (server for servers in started.values() for server in servers):
            server.suspend()
        for number in range(options.rounds + 1):
            found = {}
            for size, servers in started.items():
                found |= {f"{size}: {name}": load for name, load in measure(servers, options.seconds).items()}
            rounds += [found] if number else []  # in the first they warm up
    print(write_rounds(RESULTS / "sizing", describe(), rounds, ()))


if __name__ == "__main__":
    main()
