"""Start the service on this machine.

It is `bentoml serve` with a look around before: what would end in a trace there is told here in one line.
"""

import argparse
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from photoz.errors import PhotozError
from service.settings import ROOT, bundle_path

HINTS = """
photoz answers on {url}   (stop it with Ctrl-C)

  Try it with curl:
    curl --data-binary @examples/cutouts.npz {url}/predict_file

  From Python, in another terminal (. .venv/bin/activate):
    import numpy as np
    from photoz_client import PhotozClient
    cutouts = np.load("examples/cutouts.npz")
    with PhotozClient("{url}") as client:
        print(client.predict(cutouts["images"], ebv=cutouts["ebv"]).z_mean)

  From the shell:     .venv/bin/photoz predict examples/cutouts.npz --url {url}
  In the browser:     {url}
"""

PATIENCE = 120.0  # seconds that the hints wait for the service


def main() -> None:
    """Become the service, or end with one line that says why not."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--hints", action="store_true", help="say how to talk to it, once it listens")
    parser.add_argument("--hints-for", metavar="URL", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.hints_for:
        _give_hints(chosen.hints_for)
        return
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    try:
        _check_folders()
        _check_port(chosen.host, chosen.port)
    except (OSError, PhotozError) as error:
        sys.exit(f"photoz: {error}")
    if chosen.hints:
        url = f"http://{chosen.host}:{chosen.port}"
        subprocess.Popen([sys.executable, "-m", "service", "--hints-for", url], cwd=ROOT)
    os.chdir(ROOT)
    where = ["--host", chosen.host, "--port", str(chosen.port)]
    # No other program takes the place of this one: the handler of SIGTERM (service/__main__.py) would be lost with it.
    sys.argv = ["bentoml", "serve", "service.app:Photoz", *where]
    runpy.run_module("bentoml", run_name="__main__", alter_sys=True)


def _check_folders() -> None:
    """Find a place for the sockets between the processes, and for BentoML's folders, of which nothing is needed."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(4096))
    except OSError as error:
        raise OSError(f"needs a folder to write to, such as /tmp or that of TMPDIR: {error}") from error
    home = Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError:
        if bundle := os.environ.get("PHOTOZ_BUNDLE", "").strip():
            os.environ["PHOTOZ_BUNDLE"] = str(bundle_path(bundle))  # a tag is of the store that is there
        os.environ["BENTOML_HOME"] = tempfile.mkdtemp(prefix="photoz-")


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error


def _give_hints(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and os.getppid() != 1:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                print(HINTS.format(url=url), flush=True)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
