"""Try a bundle before any worker starts, its engine in a process of its own: one that crashes takes that one down."""

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace

from photoz.bundle import ModelBundle
from photoz.card import EngineRecord
from photoz.errors import InvalidBundle, PhotozError
from service.engines import KERAS, check_network, engine_records, needs_bfloat16
from service.predictor import Predictor, load_novelty
from service.settings import ROOT, Settings

logger = logging.getLogger("bentoml.photoz")


def try_bundle(settings: Settings) -> str:
    """Check a bundle and let its engine predict once, in a child process.

    Parameters
    ----------
    settings : Settings
        Which bundle, and with what engine. Where that leaves a choice, one that crashes is passed over.

    Returns
    -------
    str
        Name of the engine that works: what PHOTOZ_ENGINE has to be for the workers.

    Raises
    ------
    InvalidBundle
        With what is wrong, in one line.
    """
    bundle = ModelBundle.load(settings.bundle)
    load_novelty(bundle)
    records = engine_records(bundle, settings.engine)
    while records:
        child = _run("service.attempt", str(settings.threads), *(_argument(bundle, record) for record in records))
        place, _, rest = child.stdout.partition("\n")
        if not child.returncode and not place:
            raise needs_bfloat16(bundle, records)
        if child.returncode >= 0:
            _refuse_failure(child)
            check_network(bundle.card, *json.loads(rest))
            return records[int(place)].name
        at = int(place or 0)  # empty where OpenVINO itself ended it, before any was tried
        tried, records = records[at], records[at + 1 :]
        crash = f"{tried.name} of {settings.bundle} ended its process with {signal.Signals(-child.returncode).name}"
        if not records:
            raise InvalidBundle(f"{crash}; try PHOTOZ_ENGINE=keras")
        logger.warning("%s; trying %s", crash, records[0].name)
    _refuse_failure(_run("service.check", str(settings.bundle.resolve())))
    return KERAS


def _argument(bundle: ModelBundle, record: EngineRecord) -> str:
    return f"{record.precision or 'f32'}:{bundle.path.resolve() / record.path}"


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _refuse_failure(child: subprocess.CompletedProcess[str]) -> None:
    if child.returncode:
        said = child.stdout.strip() or child.stderr.strip() or f"the check ended with {child.returncode}"
        raise InvalidBundle(said.splitlines()[-1])


def main(bundle: str) -> int:
    """Load Keras's network and let it predict once; what is wrong goes to stdout."""
    try:
        Predictor(ModelBundle.load(bundle), replace(Settings.from_environment(), engine=KERAS))
    except PhotozError as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
