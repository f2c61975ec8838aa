"""Try a bundle before any worker starts, in a process of its own: an engine that crashes takes that one down."""

import os
import signal
import subprocess
import sys

from photoz.bundle import ModelBundle
from photoz.errors import InvalidBundle, PhotozError
from service.predictor import Predictor
from service.settings import ROOT, Settings


def try_bundle(settings: Settings) -> None:
    """Load a bundle in a child process and let it predict once.

    Parameters
    ----------
    settings : Settings
        Which bundle, and with what engine.

    Raises
    ------
    InvalidBundle
        With what is wrong, in one line.
    """
    child = subprocess.run(
        [sys.executable, "-m", "service.check"],
        cwd=ROOT,
        env={**os.environ, "PHOTOZ_BUNDLE": str(settings.bundle.resolve())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise InvalidBundle(f"the engine of {settings.bundle} ended its process with {name}; try PHOTOZ_ENGINE=keras")
    if child.returncode:
        raise InvalidBundle((child.stdout.strip() or child.stderr.strip() or "unknown error").splitlines()[-1])


def main() -> int:
    """Load and predict; what is wrong goes to stdout."""
    try:
        settings = Settings.from_environment()
        Predictor(ModelBundle.load(settings.bundle), settings)
    except PhotozError as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
