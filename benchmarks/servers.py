"""Start servers as processes of their own, ask them, put load on them, stop them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks import threads
from benchmarks.connection import BadReply
from benchmarks.load import ask_once
from benchmarks.wire import FORMS
from service.settings import ROOT

FULL = "v2-full"  # the form that asks for estimates and flags as well as for PDFs

START_TIMEOUT = 180.0  # seconds; a peer that imports TensorFlow in several processes takes its time
STOP_TIMEOUT = 20.0
PAUSE = 0.01  # between tries to reach a server that starts


@dataclass(frozen=True)
class Recipe:
    """How to start a server and how to talk to it.

    Parameters
    ----------
    command : tuple of str
        Where "{port}" stands for the port.
    port, path, form
        Where requests go, and which of `wire.FORMS` they have.
    environment : mapping of str to str
        Added to the environment of this process.
    """

    command: tuple[str, ...]
    port: int
    path: str
    form: str = "v2"
    environment: Mapping[str, str] = field(default_factory=dict)

    def pdfs(self, n: int) -> np.ndarray:
        """Ask for the PDFs of n cutouts, shape (n, n_bins)."""
        return ask_once(FORMS[self.form], self.port, self.path, n)


@dataclass(frozen=True)
class Server:
    """A server that has answered.

    Parameters
    ----------
    recipe : Recipe
        It was started by.
    process : subprocess.Popen
        The first of its processes.
    start_s : float
        Seconds from its start to its first answer.
    """

    recipe: Recipe
    process: "subprocess.Popen[bytes]"
    start_s: float

    def load(
        self, clients: int, images: int, seconds: float, rate: float | None = None, form: str | None = None
    ) -> dict[str, float]:
        """Let the load generator measure it, with another form than the recipe's if one is named; see `load.Report`."""
        recipe = self.recipe
        options = {"port": recipe.port, "path": recipe.path, "form": form or recipe.form, "seconds": seconds}
        options |= {"clients": clients, "images": images} | ({"rate": rate} if rate else {})
        command = [sys.executable, "-m", "benchmarks.load", *(f"--{name}={value}" for name, value in options.items())]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise BadReply(done.stderr.strip())
        report: dict[str, float] = json.loads(done.stdout)
        return report

    def suspend(self) -> None:
        """Let none of its processes run."""
        for process in self._processes():
            _tell(process.suspend)

    @contextmanager
    def awake(self) -> Iterator["Server"]:
        """Let its processes run again, as long as the context lasts."""
        for process in self._processes():
            _tell(process.resume)
        try:
            yield self
        finally:
            self.suspend()

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def running(recipe: Recipe) -> Iterator[Server]:
    """Start a server, wait for its first answer, and stop all its processes in the end."""
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w+") as log:
        environment = {**os.environ, "BENTOML_HOME": home, "PYTHONPATH": _import_path(), **recipe.environment}
        command = [part.format(port=recipe.port) for part in recipe.command]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for_answer(process, recipe, started + START_TIMEOUT)
            yield Server(recipe, process, time.perf_counter() - started)
        except BadReply as error:
            raise BadReply(f"{' '.join(command)}: {error}\n{Path(log.name).read_text()[-3000:]}") from error
        finally:
            _stop(process)


def free_port() -> int:
    """Find a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def service(bundle: Path, model: str) -> Recipe:
    """Give the recipe of the service, started as its container starts it."""
    return _served(("service",), f"/v2/models/{model}/infer", bundle)


def prototype(bundle: Path) -> Recipe:
    """Give the recipe of the plain prototype."""
    return _served(("bentoml", "serve", "benchmarks.prototype:Prototype"), "/v2/models/photoz/infer", bundle)


def _served(module: tuple[str, ...], path: str, bundle: Path) -> Recipe:
    command = (sys.executable, "-m", *module, "--host", "127.0.0.1", "--port", "{port}")
    variables = {"PHOTOZ_BUNDLE": str(bundle.resolve()), "BENTOML_DO_NOT_TRACK": "true", **threads.ENGINE}
    return Recipe(command, free_port(), path, environment=variables)


def _import_path() -> str:
    return os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])


def _wait_for_answer(process: "subprocess.Popen[bytes]", recipe: Recipe, deadline: float) -> None:
    last = "nothing"
    while process.poll() is None and time.perf_counter() < deadline:
        try:
            recipe.pdfs(1)
            return
        except (BadReply, OSError) as error:
            last = str(error)
            time.sleep(PAUSE)
    raise BadReply(f"no answer: {last}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process and all that it started, politely at first."""
    if process.poll() is not None:
        return
    first = psutil.Process(process.pid)
    family = [first, *first.children(recursive=True)]
    for one in family:
        _tell(one.resume)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    for one in family:
        _tell(one.kill)
    process.wait()


def _tell(signal: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        signal()
