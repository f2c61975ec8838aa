"""Preflight check of a bundle before the service starts. Its engine runs in a child process, which may crash."""

import logging
import os
import signal
import threading

from pebble import ProcessExpired, ProcessPool

from photoz.errors import InvalidBundle, PhotozError
from photoz.inference.engines import AUTO, KERAS, engine_records, load_engine, needs_bfloat16
from photoz.inference.openvino import runs
from photoz.inference.predictor import load_feature_groups
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
        try:
            if _call(pool, bundle, record.name, record.precision, threads):
                return record.name
        except _Crashed as error:
            crash = error
    if crash:
        raise InvalidBundle(f"{crash}; try the engine {KERAS}")
    if records:
        raise needs_bfloat16(bundle, records)
    _call(pool, bundle, KERAS, "f32", threads)
    return KERAS


def _run(bundle: ModelBundle, engine: str, precision: str, threads: int) -> bool:
    """Load an engine, which runs it once; return whether this processor computes in the precision."""
    if not runs(precision):
        return False
    load_engine(bundle, engine, threads)
    return True


class _Crashed(InvalidBundle):
    """An engine ended its process."""


def _call(pool: ProcessPool, bundle: ModelBundle, engine: str, precision: str, threads: int) -> bool:
    named = f"{engine} of {bundle.path}"
    try:
        return bool(pool.schedule(_run, (bundle, engine, precision, threads)).result())
    except ProcessExpired as error:
        code = error.exitcode
        status = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        raise _Crashed(f"{named} ended its process with {status}") from error
    except PhotozError:
        raise
    except Exception as error:  # OpenVINO, Keras and TensorFlow raise exceptions of any kind
        raise InvalidBundle(f"{named} does not run: {str(error).strip().splitlines()[-1]}") from error
