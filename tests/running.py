"""Start the service in processes of its own, and stop it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[1]
START_TIMEOUT = 300.0  # seconds; it takes three on an idle machine


@dataclass(frozen=True)
class RunningService:
    """A service, ready or starting."""

    url: str
    process: subprocess.Popen  # the main process, which takes SIGTERM
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def workers(self) -> list[psutil.Process]:
        """The child process that serves; none while it is not running."""
        workers = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it has ended
                if "spawn_main" in " ".join(child.cmdline()):
                    workers.append(child)
        return workers


def serve_command(port: int, host: str = "127.0.0.1") -> list[str]:
    return [sys.executable, "-m", "service", "serve", "--host", host, "--port", str(port)]


def serve_environment(home: Path, **variables: object) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    fixed = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(home), "PYTHONPATH": path}
    return {**os.environ, **fixed, **{name: str(value) for name, value in variables.items()}}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=60.0).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)  # there is nothing to wait on before it listens
    pytest.fail(f"the service did not start:\n{log.read_text()[-3000:]}")


@contextmanager
def running_service(
    home: Path, *, host: str = "127.0.0.1", ready: bool = True, **variables: object
) -> Iterator[RunningService]:
    """Start a service, wait until it is ready if `ready`, and stop it in the end."""
    port, log = free_port(), home / "service.log"
    environment = serve_environment(home, **{"PHOTOZ_DRAIN_SECONDS": 0, **variables})
    with log.open("wb") as output:
        process = subprocess.Popen(
            serve_command(port, host), cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            service = RunningService(f"http://127.0.0.1:{port}", process, log)
            if ready:
                wait_until_ready(process, service.url, log)
            yield service
        finally:
            process.terminate()
            process.wait(timeout=120)
