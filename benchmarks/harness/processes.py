"""Servers as processes: start, ask, load, observe, suspend and stop them."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.environment import ENGINE_THREADS, ROOT
from benchmarks.harness.h2load import run_h2load
from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, request
from benchmarks.harness.messages import FORMS, BadReply

START_TIMEOUT = 180.0  # seconds; a peer that imports TensorFlow in several processes takes its time
STOP_TIMEOUT = 20.0
PAUSE = 0.01  # between tries to reach a server that starts
SAME = 0.01  # of a PDF's bin: more than rounding changes a quantised network, far less than another cutout does

MB = 1e6

_ERROR = re.compile(r'"level": ?"(?:error|critical)"|^\[(?:ERROR|CRITICAL)\]|^Traceback ')


@dataclass(frozen=True)
class Recipe:
    """How to start a server and where to send requests."""

    command: tuple[str, ...]  # with "{port}" where the port goes
    port: int
    path: str
    form: str = "v2"  # one of `messages.FORMS`
    environment: Mapping[str, str] = field(default_factory=dict)  # added to that of this process
    checkout: Path = ROOT  # whose code it runs
    asks_ready: bool = False  # whether it has started when /readyz says so, instead of when it predicts


@dataclass(frozen=True)
class Server:
    """A server that has answered; `process` is the first of its processes."""

    recipe: Recipe
    process: "subprocess.Popen[bytes]"
    log: Path
    start_s: float

    def pdfs(self, n: int) -> np.ndarray:
        """Ask for the PDFs of n cutouts, (n, n_bins)."""
        return FORMS[self.recipe.form].ask(self.recipe.port, self.recipe.path, n)

    def load(self, clients: int, images: int, seconds: float, form: str = "") -> dict[str, float]:
        """Measure it with `run_h2load`, `images` cutouts per request; add `images_per_s`."""
        body, before = FORMS[form or self.recipe.form].encode(*cutouts(images)), self._settled_pdfs(images)
        url = f"http://127.0.0.1:{self.recipe.port}{self.recipe.path}"
        figures = run_h2load(url, body, clients, seconds)
        if np.abs(self._settled_pdfs(images) - before).max() > SAME:
            raise BadReply("the same request brought other PDFs after the load than before")
        return figures | {"images_per_s": images * figures["requests"]}

    def _settled_pdfs(self, n: int) -> np.ndarray:
        """Ask for PDFs; wait while the server is still busy with an overload before."""
        deadline = time.perf_counter() + STOP_TIMEOUT
        while True:
            try:
                return self.pdfs(n)
            except BadReply:
                if time.perf_counter() > deadline:
                    raise
                time.sleep(PAUSE)

    def processes(self) -> list[psutil.Process]:
        """Return its processes, the first one first."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """Return the process that holds the model: the largest one under the first."""
        return max(self.processes()[1:], key=lambda process: process.memory_info().rss)

    def memory_mb(self) -> float:
        """Return the memory of all its processes, in MB of 10^6 bytes."""
        return memory_mb(self.processes())

    def wait_for_exit(self, timeout: float) -> tuple[float, int | None]:
        """Return the seconds until the first process has ended, and its exit code, None if it still runs."""
        began = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        return time.perf_counter() - began, self.process.returncode

    def errors(self) -> list[str]:
        """Return the beginnings of the errors in its log, and of tracebacks outside them."""
        return [line[:500] for line in self.log.read_text(errors="replace").splitlines() if _ERROR.search(line)]


@contextmanager
def running(recipe: Recipe) -> Iterator[Server]:
    """Start a server, wait for its first answer, and stop all its processes in the end."""
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w+") as log:
        paths = os.pathsep.join([str(recipe.checkout), str(recipe.checkout / "clients" / "python")])
        environment = {**os.environ, "BENTOML_HOME": home, "PYTHONPATH": paths, **recipe.environment}
        command = [part.format(port=recipe.port) for part in recipe.command]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=recipe.checkout, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for_answer(process, recipe, started + START_TIMEOUT)
            yield Server(recipe, process, Path(log.name), time.perf_counter() - started)
        except BadReply as error:
            raise BadReply(f"{' '.join(command)}: {error}\n{Path(log.name).read_text()[-3000:]}") from error
        finally:
            _stop(process)


def free_port() -> int:
    """Find a port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def service(bundle: Path, **variables: str) -> Recipe:
    """Return the recipe of the service, started as its container starts it, with more environment variables."""
    command = (sys.executable, "-m", "service", "serve", "--host", "127.0.0.1", "--port", "{port}")
    fixed = {"PHOTOZ_BUNDLE": str(bundle.resolve()), "BENTOML_DO_NOT_TRACK": "true", **ENGINE_THREADS}
    return Recipe(command, free_port(), "/v2/models/photoz/infer", environment=fixed | variables)


def memory_mb(processes: Iterable[psutil.Process]) -> float:
    """Sum the memory of processes that still run, in MB of 10^6 bytes; pages that they share count once."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error, OSError):
            total += process.memory_full_info().pss / MB
    return total


def _wait_for_answer(process: "subprocess.Popen[bytes]", recipe: Recipe, deadline: float) -> None:
    error: Exception | None = None
    while process.poll() is None and time.perf_counter() < deadline:
        try:
            if recipe.asks_ready:
                Connection(recipe.port).ask(request("GET", "/readyz"))
            else:
                FORMS[recipe.form].ask(recipe.port, recipe.path, 1)
            return
        except (BadReply, Lost, NotHttp, Refused) as latest:
            error = latest
            time.sleep(PAUSE)
    raise BadReply(f"no answer: {error}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Terminate the first process, then kill what is left of all."""
    processes: list[psutil.Process] = []
    if process.poll() is None:
        first = psutil.Process(process.pid)
        processes = [first, *first.children(recursive=True)]
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
    for child in processes:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
