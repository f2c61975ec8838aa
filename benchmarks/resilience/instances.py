"""Instances of the service that are rolled out: as processes, or as containers.

`process` and `container` are contexts that start one for a bundle and yield it.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.harness.environment import ENGINE_THREADS
from benchmarks.harness.processes import running, service
from photoz.model.bundle import ModelBundle

PATIENCE = 60.0  # seconds that an instance may take to end
BUNDLE = "/app/models/photoz"  # in the image
PORT = 3000  # in the image
DRAIN = "PHOTOZ_DRAIN_SECONDS"  # the setting


@dataclass(frozen=True)
class Version:
    """A bundle that is rolled out, and the name of its model in answers."""

    bundle: Path
    label: str

    @classmethod
    def of(cls, bundle: Path) -> "Version":
        """Read the label from the bundle's card."""
        card = ModelBundle.load(bundle).card
        return cls(bundle, f"{card.name} {card.version}")

    def next(self, folder: Path) -> "Version":
        """Write the same model under another version into a folder."""
        card = ModelBundle.load(self.bundle).card
        other = card.model_copy(update={"version": f"{card.version}-next"})
        return self.of(ModelBundle.write(folder / "next", other, self.bundle).path)


@dataclass(frozen=True)
class Instance:
    """A running service; `stop` sends SIGTERM and returns the seconds to its end and the exit code, None if it runs."""

    version: Version
    port: int
    stop: Callable[[], tuple[float, int | None]]


Start = Callable[[Version, int], AbstractContextManager[Instance]]


@contextmanager
def process(drain: float, version: Version, port: int) -> Iterator[Instance]:
    """Run the service on a port as its container starts it, with so many seconds of drain."""
    with running(replace(service(version.bundle, **{DRAIN: f"{drain:g}"}), port=port)) as server:

        def stop() -> tuple[float, int | None]:
            server.process.terminate()
            return server.wait_for_exit(PATIENCE)

        yield Instance(version, port, stop)


@contextmanager
def container(image: str, network: str, drain: float, version: Version, port: int) -> Iterator[Instance]:
    """Run the image under podman, with nothing but /tmp to write to and no capability, on a port of 127.0.0.1."""
    name = f"photoz-rollout-{port}"
    variables = {**ENGINE_THREADS, DRAIN: f"{drain:g}"}
    options = ["--read-only", "--tmpfs=/tmp", "--cap-drop=all", f"--publish=127.0.0.1:{port}:{PORT}"]
    options += [f"--env={key}={value}" for key, value in variables.items()]
    options += [f"--volume={version.bundle.resolve()}:{BUNDLE}:ro", *([f"--network={network}"] if network else [])]

    def stop() -> tuple[float, int | None]:
        began = time.perf_counter()
        _podman("stop", f"--time={PATIENCE:g}", name)
        seconds, code = time.perf_counter() - began, int(_podman("inspect", "--format={{.State.ExitCode}}", name))
        _podman("rm", name)  # the next one on this port has the same name
        return seconds, code

    try:
        _podman("run", "--detach", f"--name={name}", *options, image)
        yield Instance(version, port, stop)
    finally:
        _podman("rm", "--force", "--ignore", "--time=0", name)


def _podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"podman {arguments[0]}: {done.stderr.strip()[-1000:]}")
    return done.stdout
