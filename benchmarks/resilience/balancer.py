"""HAProxy in front of two ports, as a Service of Kubernetes is in front of its pods; see haproxy.cfg."""

import csv
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import free_port

HAPROXY = Path(__file__).with_name("haproxy.cfg")


@dataclass(frozen=True)
class Balancer:
    """A HAProxy that runs: the port that clients know, and those of the instances."""

    port: int
    ports: tuple[int, int]
    socket: Path

    def wait_for(self, port: int, status: str, timeout: float = 60.0) -> None:
        """Wait until HAProxy counts an instance as "UP" or "DOWN"; `TimeoutError` if it never does."""
        name, deadline = "ab"[self.ports.index(port)], time.monotonic() + timeout
        while not self._status(name).startswith(status):
            if time.monotonic() > deadline:
                raise TimeoutError(f"port {port} is not {status} after {timeout:g} s")
            time.sleep(0.02)

    def _status(self, name: str) -> str:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.socket))
            control.sendall(b"show stat\n")
            rows = csv.DictReader(control.makefile().read().lstrip("# ").splitlines())
        return next(row["status"] for row in rows if row["svname"] == name)


@contextmanager
def running_balancer(probe: float, propagation: float) -> Iterator[Balancer]:
    """Run HAProxy as long as the context lasts; both instances are down at first. Times in seconds."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("the roll-out needs HAProxy: install the system's package haproxy")
    with tempfile.TemporaryDirectory() as folder:
        balancer = Balancer(free_port(), (free_port(), free_port()), Path(folder) / "socket")
        ports = {"PORT": balancer.port, "PORT_A": balancer.ports[0], "PORT_B": balancer.ports[1]}
        times = {"PROBE": round(1e3 * probe), "PROPAGATION": round(1e3 * propagation)}
        times["CHECK_TIMEOUT"] = max(times["PROBE"], 1000)
        variables = {name: str(value) for name, value in {**ports, **times, "SOCKET": balancer.socket}.items()}
        process = subprocess.Popen([program, "-db", "-q", "-f", HAPROXY], env={**os.environ, **variables})
        try:
            while process.poll() is None and not balancer.socket.exists():
                time.sleep(0.01)
            for port in balancer.ports:
                balancer.wait_for(port, "DOWN")
            yield balancer
        finally:
            process.kill()
            process.wait()
