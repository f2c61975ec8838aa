"""Run containers of an image, and ask what is in them."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

# As an operator who trusts nobody runs it: no network, nothing to write to but /tmp, no right that can be taken away.
HARDENED = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=700m",
)

READY_TIMEOUT = 60.0  # seconds

# Within the container, since no network leads there: sends stdin to an address, and writes the answer to stdout.
ASK = """
import sys, urllib.request
url, accept = sys.argv[1:3]
body = sys.stdin.buffer.read()
request = urllib.request.Request("http://127.0.0.1:3000" + url, data=body or None, headers={"Accept": accept})
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

    def said(self, *arguments: str) -> str:
        """Return what a command prints."""
        return self(*arguments).stdout.decode().strip()

    @contextmanager
    def container(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator["Container"]:
        name = self.said("run", "--detach", *options, image, *command)
        try:
            yield Container(self, name)
        finally:
            self("rm", "--force", name)


@dataclass(frozen=True)
class Container:
    """One that runs."""

    engine: Engine
    name: str

    def run(self, *command: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess:
        return self.engine("exec", "--interactive", self.name, *command, stdin=stdin, check=check)

    def ask(self, url: str, body: bytes = b"", accept: str = "*/*") -> bytes:
        return self.run("python", "-c", ASK, url, accept, stdin=body).stdout

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while self.run("python", "-c", ASK, "/readyz", "*/*", check=False).returncode:
            if time.monotonic() > deadline:
                pytest.fail(f"not ready:\n{self.engine('logs', self.name).stderr.decode()[-3000:]}")
            time.sleep(0.2)
