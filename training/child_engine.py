"""An OpenVINO engine in a child process: a precision that the processor does not support can crash the process."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pebble import ProcessExpired, ProcessPool

from photoz.errors import InvalidBundle
from photoz.inference.engines import Images, NetworkOutput, NetworkSignature, OpenVinoEngine
from photoz.processes import process_pool

T = TypeVar("T")

# Loads the engine, once in each child process.
_load: Callable[[], OpenVinoEngine]


class EngineRejected(Exception):
    """A compiled network does not run on this processor, or its predictions differ from Keras's."""


@dataclass(frozen=True)
class ChildEngine:
    """An engine in the only process of a pool; made by `child_engine`."""

    _pool: ProcessPool

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> NetworkOutput:
        """Run the engine as `photoz.inference.engines.Engine.predict`; raises `EngineRejected` if it does not run."""
        return self._run(_predict, images, ebv)

    def images_per_second(self, images: Images, ebv: npt.NDArray[np.float32], seconds: float) -> float:
        """Predict the same images repeatedly for some seconds and return the throughput."""
        return self._run(_images_per_second, images, ebv, seconds)

    def _run(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return self._pool.schedule(function, arguments).result()
        except ProcessExpired as error:
            status = signal.Signals(-error.exitcode).name if error.exitcode < 0 else f"exit status {error.exitcode}"
            raise EngineRejected(f"its process ended with {status}") from error
        except InvalidBundle as error:
            raise EngineRejected(str(error)) from error


@contextmanager
def child_engine(path: Path, precision: str, signature: NetworkSignature) -> Iterator[ChildEngine]:
    """Load an engine in a child process, with the arguments of `OpenVinoEngine`; it uses all threads."""
    with process_pool(initializer=_set_engine, initargs=(path, precision, signature)) as pool:
        yield ChildEngine(pool)


def _set_engine(path: Path, precision: str, signature: NetworkSignature) -> None:
    """Prepare a child process; its first job loads the engine, so that a crash fails that job."""
    global _load
    _load = cache(partial(OpenVinoEngine, path, precision, 0, signature))


def _predict(images: Images, ebv: npt.NDArray[np.float32]) -> NetworkOutput:
    return _load().predict(images, ebv)


def _images_per_second(images: Images, ebv: npt.NDArray[np.float32], seconds: float) -> float:
    engine = _load()
    start, n_runs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        engine.predict(images, ebv)
        n_runs += 1
    return n_runs * len(images) / (time.perf_counter() - start)
