"""An OpenVINO engine in a child process: a precision that the processor does not support can crash the process."""

import multiprocessing
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import numpy as np

from photoz.errors import InvalidBundle
from photoz.inference.engines import NetworkOutput, NetworkSignature, OpenVinoEngine


class EngineRejected(Exception):
    """A compiled network does not run on this processor, or its predictions differ from Keras's."""


class SubprocessEngine:
    """An engine in a child process; use it as a context manager.

    Parameters
    ----------
    path, precision, signature
        As for `photoz.inference.engines.OpenVinoEngine`, which uses all threads.
    """

    def __init__(self, path: Path, precision: str, signature: NetworkSignature) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit TensorFlow's threads
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, path, precision, signature), daemon=True)
        self._process.start()
        other_end.close()  # otherwise a crash of the child would go unnoticed

    def __enter__(self) -> "SubprocessEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()

    def predict(self, images: np.ndarray, ebv: np.ndarray) -> NetworkOutput:
        """See `photoz.inference.engines.Engine.predict`; raises `EngineRejected` if the engine does not run."""
        return self._request(images, ebv, 0.0)[0]

    def images_per_second(self, images: np.ndarray, ebv: np.ndarray, seconds: float) -> float:
        """Predict the same images repeatedly for some seconds and return the throughput."""
        return self._request(images, ebv, seconds)[1]

    def _request(self, images: np.ndarray, ebv: np.ndarray, seconds: float) -> tuple[NetworkOutput, float]:
        try:
            self._pipe.send((images, ebv, seconds))
            reply = self._pipe.recv()
        except (EOFError, OSError):
            raise EngineRejected(f"its process ended with {self._exit_status()}") from None
        if isinstance(reply, str):
            raise EngineRejected(reply)
        return reply  # type: ignore[no-any-return]

    def _exit_status(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _serve(pipe: Connection, path: Path, precision: str, signature: NetworkSignature) -> None:
    """Load the engine and predict until the pipe is closed."""
    try:
        engine = OpenVinoEngine(path, precision, 0, signature)
    except InvalidBundle as error:
        pipe.recv()
        pipe.send(str(error))
        return
    while True:
        try:
            images, ebv, seconds = pipe.recv()
        except EOFError:
            return
        output = engine.predict(images, ebv)
        start, runs = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            engine.predict(images, ebv)
            runs += 1
        pipe.send((output, runs * len(images) / (time.perf_counter() - start)))
