"""Containers of the image under test: that of PHOTOZ_IMAGE, run by docker or podman (CONTAINER_ENGINE)."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

# No network, nothing writable but /tmp, no privileges.
HARDENED = ["--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges"]
HARDENED += ["--memory=700m", "--env=OPENBLAS_CORETYPE", "--env=OPENBLAS_L2_SIZE"]  # the same arithmetic as here

# Runs inside the container, which has no network: sends stdin to a path and writes the answer to stdout.
SEND = """
import sys, urllib.request
path, accept = sys.argv[1:3]
body = sys.stdin.buffer.read()
request = urllib.request.Request("http://127.0.0.1:3000" + path, data=body or None, headers={"Accept": accept})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=60).read())
"""


@dataclass(frozen=True)
class Engine:
    """Docker or podman."""

    name: str

    def __call__(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run([self.name, *arguments], input=stdin, capture_output=True, timeout=300, check=False)
        if check and done.returncode:
            pytest.fail(f"{self.name} {' '.join(arguments)}: {done.stderr.decode()[-2000:]}")
        return done

    def output(self, *arguments: str) -> str:
        return self(*arguments).stdout.decode().strip()

    @contextmanager
    def container(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator["Container"]:
        name = self.output("run", "--detach", *options, image, *command)
        try:
            yield Container(self, name)
        finally:
            self("rm", "--force", name)


@dataclass(frozen=True)
class Container:
    """A running container."""

    engine: Engine
    name: str

    def run(self, *command: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess:
        return self.engine("exec", "--interactive", self.name, *command, stdin=stdin, check=check)

    def send(self, path: str, body: bytes = b"", accept: str = "*/*") -> bytes:
        return self.run("python", "-c", SEND, path, accept, stdin=body).stdout

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.run("python", "-c", SEND, "/readyz", "*/*", check=False).returncode:
            if time.monotonic() > deadline:
                pytest.fail(f"not ready:\n{self.engine('logs', self.name).stderr.decode()[-3000:]}")
            time.sleep(0.2)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(os.environ.get("CONTAINER_ENGINE") or "podman")


@pytest.fixture(scope="session")
def image(engine) -> str:
    name = os.environ.get("PHOTOZ_IMAGE")
    if not name:
        pytest.skip("no image: run make image image-check")
    if engine("image", "inspect", name, check=False).returncode:
        pytest.exit(f"image {name} not found: run make image, or set IMAGE=...", returncode=1)
    return name
