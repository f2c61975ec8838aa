"""What one instance does with the processors that it gets, and two with one each: `python -m benchmarks.sizing`.

Instances are held to their processors (Linux's `taskset`); the load generators run where there is room, on machines of
two processors on the same ones. All are started, and take turns. Writes `results/sizing.json` and prints a table.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.environment import describe
from benchmarks.results import Spread
from benchmarks.servers import Recipe, Server, free_port, running, service
from photoz.model.bundle import ModelBundle
from service.machine import available_cpus
from service.settings import ROOT

OUTPUT = ROOT / "benchmarks" / "results" / "sizing.json"

LOADS = {"4 callers, 64 cutouts a request": (4, 64), "32 callers, single cutouts": (32, 1)}


@dataclass(frozen=True)
class Size:
    """So many instances, each with so many processors."""

    instances: int
    cpus: int

    def recipes(self, bundle: Path) -> list[Recipe]:
        """Give each instance processors of its own."""
        model, usable = ModelBundle.load(bundle).card.name, sorted(os.sched_getaffinity(0))
        recipes = []
        for i in range(self.instances):
            recipe = service(bundle, model)
            held = ",".join(str(cpu) for cpu in usable[i * self.cpus : (i + 1) * self.cpus])
            environment = {**recipe.environment, "PHOTOZ_THREADS": str(self.cpus)}
            command = ("taskset", "--cpu-list", held, *recipe.command)
            recipes.append(replace(recipe, command=command, port=free_port(), environment=environment))
        return recipes

    def __str__(self) -> str:
        return f"{self.instances} x {self.cpus}"


def sizes(cpus: int) -> list[Size]:
    """One instance with one processor and with all, and as many instances as processors."""
    return [Size(1, 1)] if cpus == 1 else [Size(1, 1), Size(1, cpus), Size(cpus, 1)]


def measure(servers: Sequence[Server], seconds: float) -> dict[str, float]:
    """Put each kind of load on all instances at once; give the images per second of all together."""
    rates = {}
    for name, (clients, images) in LOADS.items():
        share = -(-clients // len(servers))
        with ThreadPoolExecutor(len(servers)) as callers, ExitStack() as awake:
            for server in servers:
                awake.enter_context(server.awake())
            loads = callers.map(lambda server: server.load(share, images, seconds), servers)  # noqa: B023
            rates[name] = sum(load["images_per_s"] for load in loads)
    return rates


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "photoz")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    chosen = parser.parse_args()
    wanted, rounds = sizes(available_cpus()), []
    with ExitStack() as stack:
        started = {
            size: [stack.enter_context(running(recipe)) for recipe in size.recipes(chosen.bundle)] for size in wanted
        }
        for servers in started.values():
            for server in servers:
                server.suspend()
        for number in range(chosen.rounds + 1):
            found = {str(size): measure(servers, chosen.seconds) for size, servers in started.items()}
            if number:  # in the first they warm up
                rounds.append(found)
            print(f"round {number} of {chosen.rounds}: {found}", file=sys.stderr)
    found = {
        str(size): {name: Spread.of([one[str(size)][name] for one in rounds]) for name in LOADS} for size in wanted
    }
    machine = describe()
    print(machine)
    for size, rates in found.items():
        print(f"{size:8}", *(f"{name}: {spread.text('.0f')}" for name, spread in rates.items()), sep="   ")
    kept = {size: {name: asdict(spread) for name, spread in rates.items()} for size, rates in found.items()}
    OUTPUT.write_text(json.dumps({"machine": machine, "sizes": kept, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
