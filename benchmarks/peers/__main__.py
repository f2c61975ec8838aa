"""`make bench-peers`: the same model.keras behind other servers, in turns with the service.

    python -m benchmarks.peers [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PEER ...]

Each peer runs in a venv of its own (python -m benchmarks.peers.install) and must give Keras's answers before it is
timed. Everything runs in a network namespace without any interface but loopback, since Ray Serve opens ports on all of
them, and in a process namespace, so that nothing outlives the run. Idle servers are suspended, since some of them poll.

The tables are printed and written to benchmarks/results/peers-ARCHITECTURE.md and .json, after each round.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

import numpy as np

from benchmarks.harness import arguments, results
from benchmarks.harness.environment import RESULTS, describe
from benchmarks.harness.processes import Recipe, Server, running, service
from benchmarks.peers import isolation
from benchmarks.peers.install import PEERS, python, version
from benchmarks.peers.recipes import RECIPES
from benchmarks.speed import answers
from benchmarks.speed.inprocess import InProcess
from benchmarks.speed.thresholds import FULL, LOADS, against_peers
from photoz.model.bundle import ModelBundle

SERVICE, BEST = "service", "best peer"

Measured = Mapping[str, float]


def main() -> None:
    options = arguments.parse("python -m benchmarks.peers", __doc__, PEERS)
    if missing := [peer for peer in options.only if not python(peer).exists()]:
        sys.exit(f"not installed: {', '.join(missing)}; python -m benchmarks.peers.install {' '.join(missing)}")
    if not isolation.isolated():
        sys.exit(isolation.run(["-m", "benchmarks.peers", *sys.argv[1:]]))
    isolation.raise_loopback()
    peers = ", ".join(f"{peer} {version(peer)}" for peer in options.only)
    machine = f"{describe()}{peers}\n{options.seconds:g} s each measurement"
    print(machine)
    for path in options.bundle:
        _compare(ModelBundle.load(path), machine, options)


def _compare(bundle: ModelBundle, machine: str, options: Namespace) -> None:
    label = bundle.card.architecture.name
    recipes = {SERVICE: service(bundle.path)}
    recipes |= {peer: RECIPES[peer](bundle.keras_path) for peer in options.only}
    with closing(InProcess("keras", str(bundle.path))) as keras:
        expected = keras.pdfs(answers.N)
    rounds: list[dict[str, Measured]] = []
    with ExitStack() as stack:
        started = {name: _start(name, recipe, bundle, expected, stack) for name, recipe in recipes.items()}
        for number in range(options.rounds):
            rounds.append(_round(label, started, number, options.seconds))
            path = RESULTS / f"peers-{label}"
            text = results.write_rounds(path, machine, rounds, against_peers(label))
    print(f"\n{text}")


def _start(name: str, recipe: Recipe, bundle: ModelBundle, expected: np.ndarray, stack: ExitStack) -> Server:
    server = stack.enter_context(running(recipe))
    pdfs = recipe.pdfs(answers.N)
    if name == SERVICE:
        difference = answers.check_close(name, bundle.card.grid, pdfs, answers.recalibrated(bundle, expected))
        print(f"{name}: largest difference from Keras in z_mean {difference:.1g}")
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
            forms = {"": started[name].recipe.form} | ({"/full": FULL} if name == SERVICE else {})
            with started[name].awake() as server:
                for suffix, form in forms.items():
                    key = f"{label}/{name}/{load}{suffix}"
                    measured[key] = server.load(clients, images, seconds, form=form)
                    print(f"round {number + 1}: {key}: {measured[key]['images_per_s']:.0f} images/s", flush=True)
        peers = [measured[f"{label}/{name}/{load}"] for name in turns if name != SERVICE]
        measured[f"{label}/{BEST}/{load}"] = max(peers, key=lambda one: one["images_per_s"])
    return measured


def _turned(names: Sequence[str], number: int) -> list[str]:
    """Begin each round with another one, so that none always runs after the same."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


if __name__ == "__main__":
    main()
