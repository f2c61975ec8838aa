"""nginx and HAProxy in front of the service, as processes."""

import csv
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.environment import ROOT
from benchmarks.harness.http_client import Connection, Refused
from benchmarks.harness.processes import free_port

HAPROXY = Path(__file__).with_name("haproxy.cfg")
NGINX = ROOT / "deploy" / "nginx"


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
    with tempfile.TemporaryDirectory() as folder:
        balancer = Balancer(free_port(), (free_port(), free_port()), Path(folder) / "socket")
        ports = {"PORT": balancer.port, "PORT_A": balancer.ports[0], "PORT_B": balancer.ports[1]}
        times = {"PROBE": round(1e3 * probe), "PROPAGATION": round(1e3 * propagation)}
        times["CHECK_TIMEOUT"] = max(times["PROBE"], 1000)
        variables = {name: str(value) for name, value in {**ports, **times, "SOCKET": balancer.socket}.items()}
        with _proxy(["haproxy", "-db", "-q", "-f", str(HAPROXY)], balancer.port, variables):
            for port in balancer.ports:
                balancer.wait_for(port, "DOWN")
            yield balancer


@contextmanager
def running_nginx(upstream: int, max_body_bytes: int) -> Iterator[int]:
    """Run nginx with deploy/nginx/photoz.conf in front of a port, as long as the context lasts; yields its port."""
    port = free_port()
    lines = (line.partition("#")[0].strip() for line in (NGINX / "defaults.env").read_text().splitlines())
    variables = dict(line.split("=", 1) for line in lines if line)
    variables |= {"NGINX_LISTEN": f"127.0.0.1:{port}", "NGINX_UPSTREAM": f"127.0.0.1:{upstream}"}
    variables["PHOTOZ_MAX_BODY_BYTES"] = str(max_body_bytes)
    text = re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], (NGINX / "photoz.conf").read_text())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # root's nginx stores bodies as the user nobody
        (Path(folder) / "nginx.conf").write_text(text)
        with _proxy(["nginx", "-p", folder, "-e", "stderr", "-c", "nginx.conf"], port, {}):
            yield port


@contextmanager
def _proxy(command: Sequence[str], port: int, variables: Mapping[str, str]) -> Iterator[None]:
    """Run a proxy of the system, which has started when it accepts connections."""
    program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit(f"this needs {command[0]}: install the system's package")
    process = subprocess.Popen([program, *command[1:]], env={**os.environ, **variables}, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(Refused):
                Connection(port).close()
                break
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()
