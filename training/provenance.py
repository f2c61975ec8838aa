"""Provenance of a model: library versions, commit, data hash and caveats for its card."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("keras", "tensorflow", "numpy", "openvino", "h5py", "galsim", "kcorrect")

RENDERED_CAVEATS = (
    "Trained and tested on cutouts rendered from real photometry, not on real images of galaxies.",
    "Its scores must not be compared with those published for real images.",
)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that affect a model."""
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """Commit of the code, with "-dirty" if it has uncommitted changes; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def caveats(provenance: str) -> tuple[str, ...]:
    """Caveats that follow from the origin of the data."""
    return RENDERED_CAVEATS if provenance.startswith("rendered") else ()
