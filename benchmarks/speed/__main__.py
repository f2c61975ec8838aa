"""`make bench`: the engine, the service and what they are compared with, in turns.

    python -m benchmarks.speed [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PART ...]

Every server and every network has a process of its own, started once; idle ones cost nothing, and each round measures
all of them one after the other. The tables give medians over the rounds, with the smallest and the largest; they are
printed, and written to benchmarks/results/ after each round.
"""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.harness import arguments, results
from benchmarks.harness.environment import RESULTS, describe
from benchmarks.harness.processes import Recipe, Server, free_port, running, served, service
from benchmarks.speed import answers, memory
from benchmarks.speed.inprocess import InProcess
from benchmarks.speed.thresholds import FULL, OURS
from photoz.model.bundle import ModelBundle

PARTS = ("engine", "keras", "service", "prototype", "start", "memory")

# What runs, and clients x images a request or the size of the batch; what is compared is measured one after the other.
STEPS = (
    *(
        "engine/1",
        "service/1x1",
        "keras/1",
        "engine/8",
        "service/8x1",
        "engine/16",
        "keras/16",
        "keras/64",
        "engine/64",
    ),
    *("service/1x64", "service/1x64/full", "prototype/1x64", "prototype/32x1", "service/32x1/full", "service/32x1"),
    "service/open",  # at a rate from the one before
)
OPEN_LOAD = 0.7  # of the rate that 32 clients reach
OPEN_CLIENTS = 64  # connections: more requests than that never wait unless the server falls behind

Measured = Mapping[str, float]
Step = tuple[str, Callable[[], Measured]]


@dataclass(frozen=True)
class Subject:
    """A bundle and all that runs it; `label` is its architecture."""

    label: str
    service: Server
    prototype: Server
    engine: InProcess
    keras: InProcess


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
        subjects = [_start(bundle, stack) for bundle in bundles]
        # Without a bundle of the document's network, one that is not trained: weights make no difference to its speed.
        document = None if "inception" in labels else stack.enter_context(closing(InProcess("document")))
        for number in range(options.rounds):
            rounds.append(peaks if number == 0 else {})
            for name, step in _steps(subjects, document, options.seconds, rounds[-1]):
                if _part(name) in options.only:
                    rounds[-1][name] = step()
                    _print(f"round {number + 1} of {options.rounds}", name, rounds[-1][name])
            text = results.write_rounds(RESULTS / "bench", machine, rounds, OURS)
    print(f"\n{text}")


def _part(name: str) -> str:
    """Return the part of --only that a measurement belongs to."""
    part = name.split("/")[1]
    return "start" if part == "import" else part


def _print(when: str, name: str, measured: Measured) -> None:
    figures = ", ".join(f"{key} {value:.4g}" for key, value in measured.items())
    print(f"{when}: {name}: {figures}", flush=True)


def _peaks(bundles: Sequence[ModelBundle], options: Namespace) -> Iterator[tuple[str, Measured]]:
    for bundle in bundles if "memory" in options.only else ():
        name = f"{bundle.card.architecture.name}/memory"
        found = memory.peak(service(bundle.path), options.seconds)
        _print("once", name, found)
        yield name, found


def _start(bundle: ModelBundle, stack: ExitStack) -> Subject:
    prototype = served(
        ("bentoml", "serve", "benchmarks.speed.prototype:Prototype"), "/v2/models/photoz/infer", bundle.path
    )
    subject = Subject(
        bundle.card.architecture.name,
        stack.enter_context(running(service(bundle.path))),
        stack.enter_context(running(prototype)),
        stack.enter_context(closing(InProcess("engine", str(bundle.path)))),
        stack.enter_context(closing(InProcess("keras", str(bundle.path)))),
    )
    _check(bundle, subject)
    return subject


def _check(bundle: ModelBundle, subject: Subject) -> None:
    """End the run unless all give Keras's answers, as closely as an export has to."""
    expected = subject.keras.pdfs(answers.N)
    given = {
        "service": (subject.service.recipe.pdfs(answers.N), answers.recalibrated(bundle, expected)),
        "prototype": (subject.prototype.recipe.pdfs(answers.N), expected),
        "engine": (subject.engine.pdfs(answers.N), expected),
    }
    for name, pair in given.items():
        difference = answers.check_close(name, bundle.card.grid, *pair)
        _print("before", f"{subject.label}/{name}: largest difference from Keras", {"z_mean": difference})


def _steps(
    subjects: Sequence[Subject], document: InProcess | None, seconds: float, seen: Mapping[str, Measured]
) -> Iterator[Step]:
    """Yield what a round measures, in its order."""
    for subject in subjects:
        for step in STEPS:
            yield f"{subject.label}/{step}", partial(_measure, subject, step, seconds, seen)
    if document:
        yield "inception/keras/64", lambda: document.measure(64, seconds)
    yield "tensorflow/import", _import_tensorflow
    for subject in subjects:
        yield f"{subject.label}/start", partial(_start_once, subject.service.recipe)


def _measure(subject: Subject, step: str, seconds: float, seen: Mapping[str, Measured]) -> Measured:
    name, load, *form = step.split("/")
    if name in ("engine", "keras"):
        network: InProcess = getattr(subject, name)
        return network.measure(int(load), seconds)
    server: Server = getattr(subject, name)
    if load == "open":
        rate = OPEN_LOAD * seen[f"{subject.label}/service/32x1"]["images_per_s"]
        return server.load(OPEN_CLIENTS, 1, seconds, rate=rate)
    clients, images = map(int, load.split("x"))
    return server.load(clients, images, seconds, form=FULL if form else server.recipe.form)


def _import_tensorflow() -> Measured:
    code = "import time; start = time.perf_counter(); import tensorflow; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {"seconds": float(done.stdout)}


def _start_once(recipe: Recipe) -> Measured:
    with running(replace(recipe, port=free_port())) as server:  # the one that is measured keeps running
        return {"seconds": server.start_s}


if __name__ == "__main__":
    main()
