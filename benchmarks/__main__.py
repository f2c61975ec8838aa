"""`make bench`: the engine, the service and what they are measured against, in turns.

    python -m benchmarks [--bundle DIR ...] [--rounds N] [--seconds S] [--quick] [--only PART ...]

Every server and every network has a process of its own, started once; idle ones cost nothing, and each round asks all
of them one after the other. The tables say medians over the rounds, with the smallest and the largest; they are
printed, and written to benchmarks/results/ after each round.
"""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from benchmarks import answers, arguments, environment, memory, results, servers
from benchmarks.inprocess import InProcess
from benchmarks.servers import Recipe, Server, running
from benchmarks.wanted import OURS
from photoz.model.bundle import ModelBundle
from service.settings import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "bench"
PARTS = ("engine", "keras", "service", "prototype", "start", "memory")

OPEN_LOAD = 0.7  # of what 32 clients reach
OPEN_CLIENTS = 64  # connections: more requests than that never wait unless the server falls behind

Measured = dict[str, float]
Step = tuple[str, Callable[[], Measured]]


@dataclass(frozen=True)
class Subject:
    """A bundle and all that runs it.

    Parameters
    ----------
    label : str
        Of its architecture.
    service, prototype, engine, keras
        Idle until they are asked.
    """

    label: str
    service: Server
    prototype: Server
    engine: InProcess
    keras: InProcess


def main() -> None:
    chosen = arguments.parse("python -m benchmarks", __doc__, PARTS)
    bundles = [ModelBundle.load(path) for path in chosen.bundle]
    labels = [bundle.card.architecture.name for bundle in bundles]
    if len(set(labels)) < len(labels):
        sys.exit(f"expected bundles of different architectures, got {', '.join(labels)}")
    machine = f"{environment.describe()}{chosen.seconds:g} s each measurement"
    print(machine)
    rounds: list[dict[str, Measured]] = []
    peaks = dict(_peaks(bundles, chosen))  # first of all, so that no other server is counted
    with ExitStack() as stack:
        subjects = [_start(bundle, stack) for bundle in bundles]
        # Without a bundle of the document's network, one that is not trained: weights make no difference to its speed.
        document = None if "inception" in labels else stack.enter_context(closing(InProcess("document")))
        for number in range(chosen.rounds):
            rounds.append(peaks if number == 0 else {})
            for name, step in _steps(subjects, document, chosen.seconds, rounds[-1]):
                if _part(name) in chosen.only:
                    rounds[-1][name] = step()
                    _tell(f"round {number + 1} of {chosen.rounds}", name, rounds[-1][name])
            text = results.write(RESULTS, machine, rounds, OURS)
    print(f"\n{text}")


def _part(name: str) -> str:
    """Give the part of --only that a measurement belongs to."""
    part = name.split("/")[1]
    return "start" if part == "import" else part


def _tell(when: str, name: str, measured: Measured) -> None:
    figures = ", ".join(f"{key} {value:.4g}" for key, value in measured.items())
    print(f"{when}: {name}: {figures}", flush=True)


def _peaks(bundles: Sequence[ModelBundle], chosen: Namespace) -> Iterator[tuple[str, Measured]]:
    if "memory" in chosen.only:
        for bundle in bundles:
            name = f"{bundle.card.architecture.name}/memory"
            found = memory.peak(servers.service(bundle.path, bundle.card.name), chosen.seconds)
            _tell("once", name, found)
            yield name, found


def _start(bundle: ModelBundle, stack: ExitStack) -> Subject:
    subject = Subject(
        bundle.card.architecture.name,
        stack.enter_context(running(servers.service(bundle.path, bundle.card.name))),
        stack.enter_context(running(servers.prototype(bundle.path))),
        stack.enter_context(closing(InProcess("engine", str(bundle.path)))),
        stack.enter_context(closing(InProcess("keras", str(bundle.path)))),
    )
    _check(bundle, subject)
    return subject


def _check(bundle: ModelBundle, subject: Subject) -> None:
    """End the run unless all give Keras's answers, as nearly as an export has to."""
    expected = subject.keras.pdfs(answers.N)
    given = {
        "service": (subject.service.recipe.pdfs(answers.N), answers.recalibrated(bundle, expected)),
        "prototype": (subject.prototype.recipe.pdfs(answers.N), expected),
        "engine": (subject.engine.pdfs(answers.N), expected),
    }
    for name, pair in given.items():
        difference = answers.check_close(name, bundle.card.grid, *pair)
        _tell("before", f"{subject.label}/{name}: largest difference from Keras", {"z_mean": difference})


def _steps(
    subjects: Sequence[Subject], document: InProcess | None, seconds: float, seen: dict[str, Measured]
) -> Iterator[Step]:
    """Give what a round measures, in its order: what is compared stands side by side."""
    for subject in subjects:
        yield from _bundle_steps(subject, seconds, seen)
    if document:
        yield "inception/keras/64", lambda: document.measure(64, seconds)
    yield "tensorflow/import", _import_tensorflow
    for subject in subjects:
        yield f"{subject.label}/start", partial(_start_once, subject.service.recipe)


def _bundle_steps(subject: Subject, seconds: float, seen: dict[str, Measured]) -> Iterator[Step]:
    label, engine, keras, service = subject.label, subject.engine, subject.keras, subject.service
    yield f"{label}/engine/1", lambda: engine.measure(1, seconds)
    yield f"{label}/service/1x1", lambda: service.load(1, 1, seconds)
    yield f"{label}/keras/1", lambda: keras.measure(1, seconds)
    yield f"{label}/engine/8", lambda: engine.measure(8, seconds)
    yield f"{label}/service/8x1", lambda: service.load(8, 1, seconds)
    yield f"{label}/engine/16", lambda: engine.measure(16, seconds)
    yield f"{label}/keras/16", lambda: keras.measure(16, seconds)
    yield f"{label}/keras/64", lambda: keras.measure(64, seconds)
    yield f"{label}/engine/64", lambda: engine.measure(64, seconds)
    yield f"{label}/service/1x64", lambda: service.load(1, 64, seconds)
    yield f"{label}/service/1x64/full", lambda: service.load(1, 64, seconds, form=servers.FULL)
    yield f"{label}/prototype/1x64", lambda: subject.prototype.load(1, 64, seconds)
    yield f"{label}/prototype/32x1", lambda: subject.prototype.load(32, 1, seconds)
    yield f"{label}/service/32x1/full", lambda: service.load(32, 1, seconds, form=servers.FULL)
    capacity = f"{label}/service/32x1"
    yield capacity, lambda: service.load(32, 1, seconds)
    if capacity in seen:
        rate = OPEN_LOAD * seen[capacity]["images_per_s"]
        yield f"{label}/service/open", lambda: service.load(OPEN_CLIENTS, 1, seconds, rate)


def _import_tensorflow() -> Measured:
    code = "import time; start = time.perf_counter(); import tensorflow; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {"seconds": float(done.stdout)}


def _start_once(recipe: Recipe) -> Measured:
    with running(replace(recipe, port=servers.free_port())) as server:  # beside the one that is up
        return {"seconds": server.start_s}


if __name__ == "__main__":
    main()
