"""Preflight check of a bundle before the service starts. Its engine runs in a child process, which may crash."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from photoz.errors import InvalidBundle, PhotozError
from photoz.inference.engines import AUTO, KERAS, NetworkSignature, engine_records, needs_bfloat16
from photoz.inference.openvino import run_once
from photoz.inference.predictor import Predictor, load_feature_groups
from photoz.model.bundle import ModelBundle
from photoz.processes import process_pool

logger = logging.getLogger(__name__)


def preflight(path: str | os.PathLike[str], engine: str = AUTO, threads: int = 1) -> str:
    """Check the bundle in a folder, run an engine of `engine_records` once in a child process, and return its name.

    An engine that crashes is skipped if the preference allows others. Raises `InvalidBundle` with one line that says
    what is wrong.
    """
    bundle = ModelBundle.load(path)
    load_feature_groups(bundle)
    pool = process_pool()
    try:
        return _first_that_runs(bundle, engine, threads, pool)
    finally:
        pool.stop()
        threading.Thread(target=pool.join).start()  # takes 0.1 s


def _first_that_runs(bundle: ModelBundle, preference: str, threads: int, pool: ProcessPool) -> str:
    records, crash = engine_records(bundle, preference), None
    for record in records:
        if crash:
            logger.warning("%s; trying %s", crash, record.name)
        network = str(bundle.path.resolve() / record.path)
        try:
            shapes = _call(pool, f"{record.name} of {bundle.path}", run_once, network, record.precision, threads)
        except _Crashed as error:
            crash = error
            continue
        if shapes:
            NetworkSignature.of(bundle.card).check(*shapes)
            return record.name
    if crash:
        raise InvalidBundle(f"{crash}; try the engine {KERAS}")
    if records:
        raise needs_bfloat16(bundle, records)
    _call(pool, f"{KERAS} of {bundle.path}", _run_keras, bundle.path)
    return KERAS


def _run_keras(bundle: Path) -> None:
    Predictor.load(ModelBundle.load(bundle), engine=KERAS)


class _Crashed(InvalidBundle):
    """An engine ended its process."""


def _call(pool: ProcessPool, engine: str, function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return pool.schedule(function, arguments).result()
    except ProcessExpired as error:
        code = error.exitcode
        status = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        raise _Crashed(f"{engine} ended its process with {status}") from error
    except PhotozError:
        raise
    except Exception as error:  # OpenVINO, Keras and TensorFlow raise exceptions of any kind
        raise InvalidBundle(f"{engine} does not run: {str(error).strip().splitlines()[-1]}") from error
