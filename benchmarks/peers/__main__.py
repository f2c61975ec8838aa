"""`make bench-peers`: the same model.keras behind other servers, in turns with the service.

    python -m benchmarks.peers [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PEER ...]

Each peer runs in a venv of its own (python -m benchmarks.peers.install) and must give Keras's answers before it is
timed. Everything runs in a network namespace without any interface but loopback, since Ray Serve opens ports on all of
them, and in a process namespace, so that nothing outlives the run. Idle servers are suspended, since some of them poll.

The tables are printed and written to benchmarks/results/peers-ARCHITECTURE.md and .json, after each round.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from contextlib import ExitStack, closing

import numpy as np

from benchmarks.harness import arguments, results
from benchmarks.harness.environment import RESULTS, describe
from benchmarks.harness.processes import Recipe, Server, running, service
from benchmarks.peers.install import PEERS, python, version
from benchmarks.peers.recipes import recipe
from benchmarks.speed import answers
from benchmarks.speed.inprocess import InProcess
from benchmarks.speed.thresholds import FULL, LOADS, against_peers
from photoz.model.bundle import ModelBundle

SERVICE, BEST = "service", "best peer"

# A new user (so that no rights are needed), network and processes; the last are killed with their first.
NAMESPACES = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
INSIDE = "PHOTOZ_BENCHMARK_NAMESPACE"

Measured = Mapping[str, float]


def main() -> None:
    options = arguments.parse("python -m benchmarks.peers", __doc__, PEERS)
    if missing := [peer for peer in options.only if not python(peer).exists()]:
        sys.exit(f"not installed: {', '.join(missing)}; python -m benchmarks.peers.install {' '.join(missing)}")
    if INSIDE not in os.environ:
        _isolate()
    peers = ", ".join(f"{peer} {version(peer)}" for peer in options.only)
    machine = f"{describe()}{peers}\n{options.seconds:g} s each measurement"
    print(machine)
    for path in options.bundle:
        _compare(ModelBundle.load(path), machine, options)


def _isolate() -> None:
    """Run this program again in the namespaces, with the loopback interface up; end with the reason if that fails."""
    command = [
        *NAMESPACES,
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "benchmarks.peers",
    ]
    try:
        os.execvpe(command[0], [*command, *sys.argv[1:]], {**os.environ, INSIDE: "1"})
    except OSError as error:
        sys.exit(f"the peers run in a network namespace, since Ray Serve opens ports on every interface: {error}")


def _compare(bundle: ModelBundle, machine: str, options: Namespace) -> None:
    label = bundle.card.architecture.name
    recipes = {SERVICE: service(bundle.path)}
    recipes |= {peer: recipe(peer, bundle.keras_path) for peer in options.only}
    with closing(InProcess("keras", str(bundle.path))) as keras:
        expected = keras.pdfs(answers.N)
    rounds: list[dict[str, Measured]] = []
    with ExitStack() as stack:
        started = {name: _start(name, how, bundle, expected, stack) for name, how in recipes.items()}
        for number in range(options.rounds):
            rounds.append(_round(label, started, number, options.seconds))
            path = RESULTS / f"peers-{label}"
            text = results.write_rounds(path, machine, rounds, against_peers(label))
    print(f"\n{text}")


def _start(name: str, how: Recipe, bundle: ModelBundle, expected: np.ndarray, stack: ExitStack) -> Server:
    server = stack.enter_context(running(how))
    pdfs = server.pdfs(answers.N)
    if name == SERVICE:
        difference = answers.check_close(name, bundle.card.grid, pdfs, answers.recalibrated(bundle, expected))
        print(f"{name}: largest difference from Keras in z_mean {difference:.1g}")
    else:
        print(f"{name}: largest difference from Keras in a bin {answers.check_same(name, pdfs, expected):.1g}")
    server.suspend()
    return server


def _round(label: str, started: dict[str, Server], number: int, seconds: float) -> dict[str, Measured]:
    measured: dict[str, Measured] = {}
    first = number % len(started)  # another one each round, so that none always runs after the same
    turns = [*started][first:] + [*started][:first]
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


if __name__ == "__main__":
    main()
