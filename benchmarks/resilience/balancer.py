"""HAProxy in front of two ports, as a Service of Kubernetes is in front of its pods.

Each new connection goes to one of the instances that are ready, drawn at random, and is neither retried nor moved; one
that is open stays where it is. Every `probe` seconds HAProxy asks each port for /readyz, as the kubelet does, and
believes an answer that differs from the last ones when a second one confirms it, `propagation` seconds later: the time
in which Kubernetes's endpoints and kube-proxy learn of it. If no instance is ready, or the one that was drawn refuses
the connection, the client's is closed.
"""

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

PROBE = 1.0  # seconds: periodSeconds and timeoutSeconds of a readiness probe
PROPAGATION = 0.5  # seconds from an answer to those who send connections

CONFIGURATION = """\
global
    stats socket {socket}
defaults
    mode tcp
    retries 0
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout check {timeout}ms
frontend clients
    bind 127.0.0.1:{port}
    default_backend instances
backend instances
    balance random(1)
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter {probe}ms fastinter {propagation}ms rise 2 fall 2
    server a 127.0.0.1:{ports[0]}
    server b 127.0.0.1:{ports[1]}
"""


@dataclass(frozen=True)
class Balancer:
    """A HAProxy that runs: the port that clients know, and those of the instances."""

    port: int
    ports: tuple[int, int]
    socket: Path

    def wait_for(self, port: int, status: str, timeout: float = 60.0) -> None:
        """Wait until HAProxy counts an instance as "UP" or "DOWN"; `TimeoutError` if it never does."""
        name, deadline = "ab"[self.ports.index(port)], time.monotonic() + timeout
        while not self._statistics()[name]["status"].startswith(status):
            if time.monotonic() > deadline:
                raise TimeoutError(f"port {port} is not {status} after {timeout:g} s")
            time.sleep(0.02)

    def _statistics(self) -> dict[str, dict[str, str]]:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.socket))
            control.sendall(b"show stat\n")
            lines = control.makefile().read().lstrip("# ").splitlines()
        return {row["svname"]: row for row in csv.DictReader(lines) if row["pxname"] == "instances"}


@contextmanager
def running_balancer(probe: float, propagation: float) -> Iterator[Balancer]:
    """Run HAProxy as long as the context lasts; both instances are down at first."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("the roll-out needs HAProxy: install the system's package haproxy")
    with tempfile.TemporaryDirectory() as folder:
        balancer = Balancer(free_port(), (free_port(), free_port()), Path(folder) / "socket")
        times = {"probe": round(1e3 * probe), "propagation": round(1e3 * propagation)}
        times["timeout"] = max(times["probe"], 1000)
        file = Path(folder) / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(**vars(balancer), **times))
        process = subprocess.Popen([program, "-db", "-q", "-f", str(file)])
        try:
            while process.poll() is None and not balancer.socket.exists():
                time.sleep(0.01)
            for port in balancer.ports:
                balancer.wait_for(port, "DOWN")
            yield balancer
        finally:
            process.kill()
            process.wait()
