"""Install each peer into a venv of its own in benchmarks/.venvs, from its pinned requirements.

python -m benchmarks.peers.install [PEER ...]
"""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE.parent / ".venvs"
PEERS = ("fastapi", "litserve", "mlserver", "ray")


def python(peer: str) -> Path:
    """Return the Python of a peer's venv."""
    return VENVS / peer / "bin" / "python"


def version(peer: str) -> str:
    """Return the version of a peer that its requirements pin."""
    lines = (HERE / peer / "requirements.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.partition("==")[0].partition("[")[0] == peer)


def install(peer: str) -> None:
    """Make the venv of a peer, unless it already has these requirements."""
    wanted, stamp = HERE / peer / "requirements.txt", VENVS / peer / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return
    print(f"Installing {wanted.relative_to(HERE.parents[1])} into {VENVS.relative_to(HERE.parents[1])} ...", flush=True)
    VENVS.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENVS / peer], check=True)
    pip = [str(python(peer)), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "-r", str(wanted)], check=True)
    shutil.copyfile(wanted, stamp)


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        install(name)
