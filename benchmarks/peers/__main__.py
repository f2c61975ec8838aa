"""`make bench-peers`: the same model.keras behind other servers, in turns with the service.

    python -m benchmarks.peers [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PEER ...]

Each peer runs in a venv of its own (python -m benchmarks.peers.install) and must give Keras's answers before it is
timed. Everything runs in a network namespace without any interface but loopback, since Ray Serve opens ports on all of
them, and in a process namespace, so that nothing outlives the run.

The table is printed, and written to benchmarks/results/peers-ARCHITECTURE.json.
"""

import argparse
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness.environment import RESULTS, TENSORFLOW_THREADS
from benchmarks.harness.processes import Recipe, Server, free_port, service
from benchmarks.harness.results import Result, conclude, reported
from benchmarks.peers.install import PEERS, python, version
from benchmarks.speed.inprocess import InProcess
from benchmarks.speed.servers import BATCHES, FULL, LOADS, SINGLES, Measured, add_options, measure_in_turns
from photoz import calibration, pdf
from photoz.model.bundle import ModelBundle

# All peers get one process with the network, and all cores for TensorFlow. The README links the documentation that
# advises these options.
MODULES = {
    "fastapi": (*("uvicorn", "benchmarks.peers.fastapi.app:app", "--port", "{port}"), "--no-access-log"),
    "ray": ("benchmarks.peers.ray.app", "{port}"),
}
# With HAProxy in place of the proxy in Python, single images came four times as fast.
RAY = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_USAGE_STATS_ENABLED": "0"}

# How many times the best peer the service has to be, by architecture.
LIMITS = {"inception": {BATCHES: 3.7, SINGLES: 3.5}, "compact": {BATCHES: 2.2, SINGLES: 2.5}}
SERVICE = "service"

N = 64  # cutouts whose PDFs are compared with Keras's
TOLERANCE = 1e-4  # of a bin: the same network in float32
# What an export of a bundle has to reach: 99.9 % of the galaxies within this of Keras's z_mean. With so few cutouts,
# one of them may lie outside.
Z_TOLERANCE, MAY_LIE_OUTSIDE = 0.002, 1

# A new user (so that no rights are needed), network and processes; the last are killed with their first.
NAMESPACES = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
LOOPBACK_UP = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
INSIDE = "PHOTOZ_BENCHMARK_NAMESPACE"


class WrongAnswers(Exception):
    """A server does not give the model's answers."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", choices=PEERS, action="append", help="measure these alone")
    options = add_options(parser)
    options.program, options.only = "peers", options.only or list(PEERS)
    if missing := [peer for peer in options.only if not python(peer).exists()]:
        sys.exit(f"not installed: {', '.join(missing)}; python -m benchmarks.peers.install {' '.join(missing)}")
    if INSIDE not in os.environ:
        _isolate()
    sys.exit(max(_compare(ModelBundle.load(path), options) for path in options.bundle))


def _isolate() -> None:
    """Run this program again in the namespaces, with the loopback interface up; end with the reason if that fails."""
    command = [*NAMESPACES, *LOOPBACK_UP, sys.executable, "-m", "benchmarks.peers", *sys.argv[1:]]
    try:
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    except OSError as error:
        sys.exit(f"the peers run in a network namespace, since Ray Serve opens ports on every interface: {error}")


def recipe(peer: str, model: Path) -> Recipe:
    """Return the recipe of a peer for a model.keras."""
    port, variables = free_port(), {"MODEL": str(model.resolve()), **TENSORFLOW_THREADS}
    variables |= RAY if peer == "ray" else {}
    return Recipe((str(python(peer)), "-m", *MODULES[peer]), port, "/predict", "raw", variables)


def _compare(bundle: ModelBundle, options: argparse.Namespace) -> int:
    label = bundle.card.architecture.name
    options.output = RESULTS / f"peers-{label}.json"
    with closing(InProcess("keras", bundle.path)) as keras:
        expected = keras.pdfs(N)
    recipes = {SERVICE: service(bundle.path)} | {peer: recipe(peer, bundle.keras_path) for peer in options.only}
    checks = {name: partial(check, name, bundle, expected) for name in recipes}
    rounds = measure_in_turns(recipes, options, checks)
    results = [result for what in LOADS for result in results_of(label, what, rounds)]
    return conclude(options, results, {"peers": {peer: version(peer) for peer in options.only}, "rounds": rounds})


def check(name: str, bundle: ModelBundle, expected: np.ndarray, server: Server) -> None:
    """Compare the PDFs with those of Keras, (n, n_bins); the service recalibrates, and may run a quantised network."""
    pdfs = server.pdfs(N)
    if name != SERVICE:
        difference = float(np.abs(pdfs - expected).max())
        if not difference < TOLERANCE:
            raise WrongAnswers(f"{name}: PDFs differ from Keras's by {difference:.2g} in a bin")
        return
    wanted, grid = calibration.apply(expected.astype(np.float64), bundle.calibration), bundle.card.grid
    off = np.abs(pdf.mean(pdfs.astype(np.float64), grid) - pdf.mean(wanted, grid))
    if not np.count_nonzero(off < Z_TOLERANCE) >= len(off) - MAY_LIE_OUTSIDE:
        raise WrongAnswers(f"{name}: z_mean differs from Keras's by {off.max():.2g}; {Z_TOLERANCE} is allowed")


def results_of(label: str, what: str, rounds: list[dict[str, Measured]]) -> list[Result]:
    """Compare the service with the best peer of each round."""
    best = [max(measured[what] for name, measured in servers.items() if name in PEERS) for servers in rounds]
    results = []
    for load in (what, what + FULL):
        ratios = [servers[SERVICE][load] / most for servers, most in zip(rounds, best, strict=True)]
        limit = LIMITS.get(label, {}).get(load)
        results.append(Result(f"{label}: {load}: service over the best peer", tuple(ratios), limit))
    return results + [reported(f"{label}, {name}: {what}", [s[name][what] for s in rounds]) for name in rounds[0]]


if __name__ == "__main__":
    main()
