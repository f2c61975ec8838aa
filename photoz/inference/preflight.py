"""Preflight check of a bundle before the service starts. Its engine runs in a child process, which may crash."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from photoz.errors import InvalidBundle
from photoz.inference.engines import AUTO, KERAS, NetworkSignature, engine_records, needs_bfloat16
from photoz.inference.predictor import load_feature_groups
from photoz.model.bundle import ModelBundle
from photoz.model.card import EngineRecord

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]  # where the child process finds this package


def preflight(path: str | os.PathLike[str], engine: str = AUTO, threads: int = 1) -> str:
    """Check the bundle in a folder, run an engine of `engine_records` once in a child process, and return its name.

    An engine that crashes is skipped if the preference allows others. Raises `InvalidBundle` with one line that says
    what is wrong.
    """
    bundle = ModelBundle.load(path)
    load_feature_groups(bundle)
    records = engine_records(bundle, engine)
    while records:
        child = _run("openvino", str(threads), *(_argument(bundle, record) for record in records))
        index, _, rest = child.stdout.partition("\n")
        if not child.returncode and not index:
            raise needs_bfloat16(bundle, records)
        if child.returncode >= 0:
            _refuse_failure(child)
            NetworkSignature.of(bundle.card).check(*json.loads(rest))
            return records[int(index)].name
        tried = int(index or 0)  # empty if OpenVINO itself crashed, before any was tried
        crash = f"{records[tried].name} of {path} ended its process with {signal.Signals(-child.returncode).name}"
        records = records[tried + 1 :]
        if not records:
            raise InvalidBundle(f"{crash}; try the engine {KERAS}")
        logger.warning("%s; trying %s", crash, records[0].name)
    _refuse_failure(_run("keras", str(bundle.path.resolve())))
    return KERAS


def _argument(bundle: ModelBundle, record: EngineRecord) -> str:
    return f"{record.precision}:{bundle.path.resolve() / record.path}"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "photoz.inference.preflight_child", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _refuse_failure(child: subprocess.CompletedProcess[str]) -> None:
    if child.returncode:
        said = child.stdout.strip() or child.stderr.strip() or f"the preflight ended with {child.returncode}"
        raise InvalidBundle(said.splitlines()[-1])
