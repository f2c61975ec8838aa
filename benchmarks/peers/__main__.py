"""`make bench-peers`: the same model.keras served by others, in turns with the service.

    python -m benchmarks.peers [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PEER ...]

Each peer answers from a venv of its own (python -m benchmarks.peers.install) and must give Keras's answers before it is
timed. Everything runs in a network namespace without any interface but loopback, since Ray Serve opens ports on all of
them, and in a process namespace, so that nothing outlives the run. Idle servers are suspended, since some of them poll.

The tables are printed and written to benchmarks/results/peers-ARCHITECTURE.md and .json, after each round.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, closing

import numpy as np

from benchmarks import answers, arguments, environment, results, servers
from benchmarks.inprocess import InProcess
from benchmarks.peers import isolation
from benchmarks.peers.install import PEERS, python, version
from benchmarks.peers.recipes import RECIPES
from benchmarks.servers import FULL, Recipe, Server, running
from benchmarks.wanted import LOADS, against_peers
from photoz.model.bundle import ModelBundle
from service.settings import ROOT

RESULTS = ROOT / "benchmarks" / "results"
SERVICE, BEST = "service", "best peer"

Measured = dict[str, float]


def main() -> None:
    chosen = arguments.parse("python -m benchmarks.peers", __doc__, PEERS)
    if missing := [peer for peer in chosen.only if not python(peer).exists()]:
        sys.exit(f"not installed: {', '.join(missing)}; python -m benchmarks.peers.install {' '.join(missing)}")
    if not isolation.isolated():
        sys.exit(isolation.run(["-m", "benchmarks.peers", *sys.argv[1:]]))
    isolation.raise_loopback()
    peers = ", ".join(f"{peer} {version(peer)}" for peer in chosen.only)
    machine = f"{environment.describe()}{peers}\n{chosen.seconds:g} s each measurement"
    print(machine)
    for path in chosen.bundle:
        _compare(ModelBundle.load(path), machine, chosen)


def _compare(bundle: ModelBundle, machine: str, chosen: Namespace) -> None:
    label = bundle.card.architecture.name
    recipes = {SERVICE: servers.service(bundle.path, bundle.card.name)}
    recipes |= {peer: RECIPES[peer](bundle.keras_path) for peer in chosen.only}
    with closing(InProcess("keras", str(bundle.path))) as keras:
        expected = keras.pdfs(answers.N)
    rounds: list[dict[str, Measured]] = []
    with ExitStack() as stack:
        started = {name: _start(name, recipe, bundle, expected, stack) for name, recipe in recipes.items()}
        for number in range(chosen.rounds):
            rounds.append(_round(label, started, number, chosen.seconds))
            text = results.write(RESULTS / f"peers-{label}", machine, rounds, against_peers(label))
    print(f"\n{text}")


def _start(name: str, recipe: Recipe, bundle: ModelBundle, expected: np.ndarray, stack: ExitStack) -> Server:
    server = stack.enter_context(running(recipe))
    pdfs = recipe.pdfs(answers.N)
    if name == SERVICE:
        truth = answers.recalibrated(bundle, expected)
        print(f"{name}: largest difference from Keras in z_mean", end=" ")
        print(f"{answers.check_close(name, bundle.card.grid, pdfs, truth):.1g}")
    else:
        print(f"{name}: largest difference from Keras in a bin {answers.check_same(name, pdfs, expected):.1g}")
    server.suspend()
    return server


def _round(label: str, started: dict[str, Server], number: int, seconds: float) -> dict[str, Measured]:
    measured: dict[str, Measured] = {}
    turns = _turned(list(started), number)
    for load in LOADS:
        clients, images = map(int, load.split("x"))
        for name in turns:
            forms = {"": None, "/full": FULL} if name == SERVICE else {"": None}
            with started[name].awake() as server:
                for suffix, form in forms.items():
                    key = f"{label}/{name}/{load}{suffix}"
                    measured[key] = server.load(clients, images, seconds, form=form)
                    print(f"round {number + 1}: {key}: {measured[key]['images_per_s']:.0f} images/s", flush=True)
        peers = [measured[f"{label}/{name}/{load}"] for name in turns if name != SERVICE]
        measured[f"{label}/{BEST}/{load}"] = max(peers, key=lambda one: one["images_per_s"])
    return measured


def _turned(names: Sequence[str], number: int) -> list[str]:
    """Begin each round with another, so that none always runs after the same."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


if __name__ == "__main__":
    main()
