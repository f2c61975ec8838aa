"""`make bench`: the engine, the service and what they are compared with, in turns.

    python -m benchmarks.speed [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PART ...]

Every server and every network has a process of its own, started once; idle ones cost nothing, and each round measures
all of them one after the other. The tables give medians over the rounds, with the smallest and the largest; they are
printed, and written to benchmarks/results/ after each round.
"""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import psutil

from benchmarks.harness import arguments, results
from benchmarks.harness.environment import RESULTS, describe
from benchmarks.harness.processes import MB, Recipe, free_port, running, served, service
from benchmarks.harness.threads import sampled
from benchmarks.speed import answers
from benchmarks.speed.inprocess import InProcess
from benchmarks.speed.thresholds import FULL, OURS
from photoz.model.bundle import ModelBundle

PARTS = ("engine", "keras", "service", "prototype", "start", "memory")

# What runs, and clients x images a request or the size of the batch; what is compared is measured one after the other.
STEPS = (
    *("engine/1", "service/1x1", "keras/1", "engine/8", "service/8x1", "engine/16", "keras/16", "keras/64"),
    *("engine/64", "service/1x64", "service/1x64/full", "prototype/1x64", "prototype/32x1", "service/32x1/full"),
    *("service/32x1", "service/open"),  # the latter at a rate from the former
)
MEMORY_EVERY = 0.02  # seconds
OPEN_LOAD = 0.7  # of the rate that 32 clients reach
OPEN_CLIENTS = 64  # connections: more requests than that never wait unless the server falls behind

Measured = Mapping[str, float]
Step = tuple[str, Callable[[], Measured]]
Subject = dict[str, Any]  # by "service", "prototype" (each a Server), "engine" and "keras" (each an InProcess)


def main() -> None:
    options = arguments.parse("python -m benchmarks.speed", __doc__, PARTS)
    bundles = [ModelBundle.load(path) for path in options.bundle]
    labels = [bundle.card.architecture.name for bundle in bundles]
    if len(set(labels)) < len(labels):
        sys.exit(f"expected bundles of different architectures, got {', '.join(labels)}")
    machine = f"{describe()}{options.seconds:g} s each measurement"
    print(machine)
    rounds: list[dict[str, Measured]] = []
    peaks = dict(_peaks(bundles, options))  # first, so that no other server is counted
    with ExitStack() as stack:
        subjects = {label: _start(bundle, stack) for label, bundle in zip(labels, bundles, strict=True)}
        # Without a bundle of the document's network, one that is not trained: weights make no difference to its speed.
        document = None if "inception" in labels else stack.enter_context(closing(InProcess("document")))
        for number in range(options.rounds):
            rounds.append(peaks if number == 0 else {})
            for name, step in _steps(subjects, document, options.seconds, rounds[-1]):
                if name.split("/")[1].replace("import", "start") in options.only:
                    rounds[-1][name] = step()
                    _print(f"round {number + 1} of {options.rounds}", name, rounds[-1][name])
            text = results.write_rounds(RESULTS / "bench", machine, rounds, OURS)
    print(f"\n{text}")


def _print(when: str, name: str, measured: Measured) -> None:
    figures = ", ".join(f"{key} {value:.4g}" for key, value in measured.items())
    print(f"{when}: {name}: {figures}", flush=True)


def _peaks(bundles: Sequence[ModelBundle], options: Namespace) -> Iterator[tuple[str, Measured]]:
    for bundle in bundles if "memory" in options.only else ():
        name = f"{bundle.card.architecture.name}/memory"
        found = _peak(service(bundle.path), options.seconds)
        _print("once", name, found)
        yield name, found


def _peak(recipe: Recipe, seconds: float) -> dict[str, float]:
    """Start a server, put load on it, and sample the sums over its processes, in MB of 10^6 bytes.

    The RSS counts pages that processes share once for each of them; the PSS (Linux only) counts them once.
    """
    with sampled(_memory, MEMORY_EVERY) as samples, running(recipe) as server:
        server.load(clients=1, images=64, seconds=seconds)
        server.load(clients=32, images=1, seconds=seconds)
    rss, pss = (max(sums[column] for _, sums in samples) / MB for column in (0, 1))
    return {"rss_mb": rss, "pss_mb": pss} if pss else {"rss_mb": rss}


def _memory() -> tuple[int, int]:
    """Sum RSS and PSS over the children in other sessions: the servers, not the load generator."""
    rss = pss = 0
    for child in psutil.Process().children(recursive=True):
        try:
            if os.getsid(child.pid) != os.getsid(0):
                used = child.memory_full_info()
                rss, pss = rss + used.rss, pss + getattr(used, "pss", 0)
        except (psutil.Error, ProcessLookupError):
            continue  # it has ended
    return rss, pss


def _start(bundle: ModelBundle, stack: ExitStack) -> Subject:
    """Start all that runs a bundle; what is not asked costs nothing."""
    path, module = str(bundle.path), ("bentoml", "serve", "benchmarks.speed.prototype:Prototype")
    subject: Subject = {
        "service": stack.enter_context(running(service(bundle.path))),
        "prototype": stack.enter_context(running(served(module, "/v2/models/photoz/infer", bundle.path))),
        "engine": stack.enter_context(closing(InProcess("engine", path))),
        "keras": stack.enter_context(closing(InProcess("keras", path))),
    }
    expected = subject["keras"].pdfs(answers.N)
    for name in ("service", "prototype", "engine"):
        wanted = answers.recalibrated(bundle, expected) if name == "service" else expected
        difference = answers.check_close(name, bundle.card.grid, subject[name].pdfs(answers.N), wanted)
        _print("before", f"{name}: largest difference from Keras", {"z_mean": difference})
    return subject


def _steps(
    subjects: Mapping[str, Subject], document: InProcess | None, seconds: float, seen: Mapping[str, Measured]
) -> Iterator[Step]:
    """Yield what a round measures, in its order."""
    for label, subject in subjects.items():
        for step in STEPS:
            yield f"{label}/{step}", partial(_measure, subject, step, seconds, seen.get(f"{label}/service/32x1"))
    if document:
        yield "inception/keras/64", lambda: document.measure(64, seconds)
    yield "tensorflow/import", _import_tensorflow
    for label, subject in subjects.items():
        yield f"{label}/start", partial(_start_once, subject["service"].recipe)


def _measure(subject: Subject, step: str, seconds: float, capacity: Measured | None) -> Measured:
    name, load, *form = step.split("/")
    if name in ("engine", "keras"):
        return subject[name].measure(int(load), seconds)
    if load == "open":
        assert capacity  # it was measured in the step before
        return subject[name].load(OPEN_CLIENTS, 1, seconds, rate=OPEN_LOAD * capacity["images_per_s"])
    clients, images = map(int, load.split("x"))
    return subject[name].load(clients, images, seconds, **({"form": FULL} if form else {}))


def _import_tensorflow() -> Measured:
    code = "import time; start = time.perf_counter(); import tensorflow; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {"seconds": float(done.stdout)}


def _start_once(recipe: Recipe) -> Measured:
    with running(replace(recipe, port=free_port())) as server:  # the one that is measured keeps running
        return {"seconds": server.start_s}


if __name__ == "__main__":
    main()
