"""Install each peer into a venv of its own in build/peers, from its pinned requirements.

python -m benchmarks.peers.install [PEER ...]
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE.parents[1] / "build" / "peers"  # not among the packages, whose files the tests read
PEERS = ("fastapi", "ray")


def python(peer: str) -> Path:
    """Return the Python of a peer's venv."""
    return VENVS / peer / "bin" / "python"


def version(peer: str) -> str:
    """Return the version of a peer that its requirements pin."""
    lines = (HERE / peer / "requirements.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.partition("==")[0].partition("[")[0] == peer)


def install(peer: str) -> None:
    """Make the venv of a peer, and install its requirements."""
    print(f"Installing {peer} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", VENVS / peer], check=True)
    pip = (python(peer), "-m", "pip", "--disable-pip-version-check", "--quiet")
    subprocess.run([*pip, "install", "-r", HERE / peer / "requirements.txt"], check=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        install(name)
