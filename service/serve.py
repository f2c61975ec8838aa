"""`make serve`: start the service on this machine and say how to talk to it, once it listens."""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from service.settings import ROOT

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


def main() -> int:
    """Run the service until it ends or is told to."""
    parser = argparse.ArgumentParser(prog="python -m service.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    chosen = parser.parse_args()
    url = f"http://{chosen.host}:{chosen.port}"
    where = ["--host", chosen.host, "--port", str(chosen.port)]
    process = subprocess.Popen([sys.executable, "-m", "bentoml", "serve", "service.app:Photoz", *where], cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        if _wait_until_ready(process, f"{url}/readyz"):
            print(HINTS.format(url=url), flush=True)
        return process.wait()
    except KeyboardInterrupt:  # the terminal has told the service too
        return process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


if __name__ == "__main__":
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    sys.exit(main())
