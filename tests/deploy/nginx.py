"""Start nginx with deploy/nginx/photoz.conf, in front of a service or of a server that records requests."""

import getpass
import os
import shutil
import socket
import string
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from tests.running import ROOT, free_port
from tests.service.helpers import wait_for

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
FOLDER = ROOT / "deploy" / "nginx"
MIB = 1024 * 1024


class RunningNginx(NamedTuple):
    url: str
    process: subprocess.Popen
    log: Path


def read_defaults() -> dict[str, str]:
    lines = (FOLDER / "defaults.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=") for line in lines if not line.startswith("#"))


@contextmanager
def running_nginx(folder: Path, upstream_port: int, **variables: object) -> Iterator[RunningNginx]:
    """Start nginx in front of a port of this machine, wait until it listens, and stop it in the end."""
    assert NGINX
    port, config = free_port(), folder / "photoz.conf"
    addresses = {"NGINX_LISTEN": f"127.0.0.1:{port}", "NGINX_UPSTREAM": f"127.0.0.1:{upstream_port}"}
    template = string.Template((FOLDER / "photoz.conf").read_text(encoding="utf-8"))
    config.write_text(template.safe_substitute(read_defaults() | addresses | variables))  # its own variables stay
    with (folder / "nginx.log").open("wb") as log:
        user = f"user {getpass.getuser()};"  # root's workers would have another, who cannot write here
        process = subprocess.Popen([NGINX, "-p", folder, "-c", config, "-g", user], stderr=log)
    nginx = RunningNginx(f"http://127.0.0.1:{port}", process, folder / "nginx.log")

    def listens() -> bool:
        assert process.poll() is None, nginx.log.read_text()
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        wait_for(listens)
        yield nginx
    finally:
        process.terminate()
        process.wait(timeout=120)


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.requests.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
        self.close_connection = True  # without saying so, as a service does that dies


@contextmanager
def recording_server(port: int) -> Iterator[list]:
    """Answer all requests, and yield the list of their headers and bodies."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Recorder) as server:
        server.requests = []
        Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield server.requests
        finally:
            server.shutdown()
