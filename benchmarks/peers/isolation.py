"""Run a script in namespaces of its own: a network with loopback alone, and processes that end with the script."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

# A new user (so that no rights are needed), network and processes; the last are killed with their first.
NAMESPACES = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
INSIDE = "PHOTOZ_BENCHMARK_NAMESPACE"

WHY = "Ray Serve opens ports on every interface, so that the peers run in a network namespace with loopback alone"


def isolated() -> bool:
    """Whether this process was started by `run`."""
    return INSIDE in os.environ


def run(arguments: Sequence[str]) -> int:
    """Run Python again with these arguments, isolated; return its exit status, or exit with the reason."""
    if missing := [tool for tool in ("unshare", "ip") if shutil.which(tool) is None]:
        sys.exit(f"{WHY}; that needs {' and '.join(missing)} (util-linux, iproute2, on Linux)")
    tried = subprocess.run([*NAMESPACES, "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if tried.returncode:
        sys.exit(f"{WHY}; that is not allowed here: {tried.stderr.strip()}")
    return subprocess.run([*NAMESPACES, sys.executable, *arguments], env={**os.environ, INSIDE: "1"}).returncode


def raise_loopback() -> None:
    """Bring up the loopback interface of this network."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
