"""Instances of the service that are rolled out: as processes, or as containers.

Both are contexts that start one for a bundle and give it; its `end` is what SIGTERM brings about.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import threads
from benchmarks.endurance.processes import wait_for_exit
from benchmarks.servers import Server, running, service
from photoz.model.bundle import ModelBundle
from service.encode import model_label

PATIENCE = 60.0  # seconds that an instance may take to end
BUNDLE = "/app/models/photoz"  # in the image
PORT = 3000


@dataclass(frozen=True)
class Version:
    """A bundle that is rolled out.

    Parameters
    ----------
    bundle : Path
        Its folder.
    label : str
        What its answers say of the model.
    """

    bundle: Path
    label: str

    @classmethod
    def of(cls, bundle: Path) -> "Version":
        """Read its label from its card."""
        return cls(bundle, model_label(ModelBundle.load(bundle).card))

    def next(self, folder: Path) -> "Version":
        """Seal the same model under another version, in a folder."""
        card = ModelBundle.load(self.bundle).card
        other = card.model_copy(update={"version": f"{card.version}-next"})
        return self.of(ModelBundle.write(folder / "next", other, self.bundle).path)


@dataclass(frozen=True)
class Instance:
    """A service that runs.

    Parameters
    ----------
    version : Version
        That it serves.
    port : int
        Of this machine.
    end : callable
        Sends SIGTERM, waits for the end, and gives the seconds that it took and the exit code, None if it still runs.
    """

    version: Version
    port: int
    end: Callable[[], tuple[float, int | None]]


Start = Callable[[Version, int], AbstractContextManager[Instance]]


@contextmanager
def process(drain: float, version: Version, port: int) -> Iterator[Instance]:
    """Run the service on a port as its container starts it, with PHOTOZ_DRAIN at so many seconds."""
    recipe = service(version.bundle, ModelBundle.load(version.bundle).card.name)
    environment = {**recipe.environment, "PHOTOZ_DRAIN": f"{drain:g}"}
    with running(replace(recipe, port=port, environment=environment)) as server:
        yield Instance(version, port, partial(_end_process, server))


def _end_process(server: Server) -> tuple[float, int | None]:
    server.process.terminate()
    return wait_for_exit(server, PATIENCE) or (PATIENCE, None)


@contextmanager
def container(image: str, network: str, drain: float, version: Version, port: int) -> Iterator[Instance]:
    """Run the image under podman, with nothing but /tmp to write to and no capability, on a port of 127.0.0.1."""
    name = f"photoz-rollout-{port}"
    variables = {**threads.ENGINE, "PHOTOZ_DRAIN": f"{drain:g}"}
    options = ["--read-only", "--tmpfs=/tmp", "--cap-drop=all", f"--publish=127.0.0.1:{port}:{PORT}"]
    options += [f"--env={key}={value}" for key, value in variables.items()]
    options += [f"--volume={version.bundle.resolve()}:{BUNDLE}:ro", *([f"--network={network}"] if network else [])]
    try:
        _podman("run", "--detach", f"--name={name}", *options, image)
        yield Instance(version, port, partial(_end_container, name))
    finally:
        _podman("rm", "--force", "--ignore", "--time=0", name)


def _end_container(name: str) -> tuple[float, int | None]:
    began = time.perf_counter()
    _podman("stop", f"--time={PATIENCE:g}", name)
    return time.perf_counter() - began, int(_podman("inspect", "--format={{.State.ExitCode}}", name))


def _podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"podman {arguments[0]}: {done.stderr.strip()[-1000:]}")
    return done.stdout
