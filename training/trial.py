"""Try a compiled network in a process of its own: one whose precision does not suit the processor ends that one."""

import multiprocessing
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import numpy as np

from photoz.inference.openvino import compile_network, named_outputs, reason

Arrays = Mapping[str, np.ndarray]


class Refused(Exception):
    """A compiled network does not run here, or does not answer as Keras does; the message says in what way."""


class Trial:
    """A compiled network in a child process; use it as a context manager.

    Parameters
    ----------
    path : Path
        Its .xml file.
    precision : {"f32", "bf16"}
        As for `photoz.inference.openvino.compile_network`.
    """

    def __init__(self, path: Path, precision: str) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit TensorFlow's threads
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, path, precision), daemon=True)
        self._process.start()
        theirs.close()  # or its end would go unnoticed

    def __enter__(self) -> "Trial":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the network.

        Parameters
        ----------
        inputs : dict of str to (n, ...) float32
            Those that it takes, and perhaps more.

        Returns
        -------
        dict of str to (n, ...) float32
            "pdf", and "features" if it has them.

        Raises
        ------
        Refused
            If it cannot be compiled or ended its process.
        """
        answers, _ = self._ask(inputs, 0.0)
        return answers

    def rate(self, inputs: Arrays, seconds: float) -> float:
        """Run the network over and over for so long and return how many rows a second went through it."""
        return self._ask(inputs, seconds)[1]

    def _ask(self, inputs: Arrays, seconds: float) -> tuple[dict[str, np.ndarray], float]:
        try:
            self._pipe.send((dict(inputs), seconds))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise Refused(f"it ended its process with {self._end()}") from None
        if isinstance(answer, str):
            raise Refused(answer)
        return answer  # type: ignore[no-any-return]

    def _end(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _work(pipe: Connection, path: Path, precision: str) -> None:
    """Compile the network and answer until nobody asks."""
    try:
        compiled = compile_network(path, precision)
    except RuntimeError as error:
        pipe.recv()
        pipe.send(f"OpenVINO cannot compile it: {reason(error)}")
        return
    names = [port.get_any_name() for port in compiled.inputs]
    outputs = named_outputs(compiled)
    request = compiled.create_infer_request()
    while True:
        try:
            inputs, seconds = pipe.recv()
        except EOFError:
            return
        feed = {name: np.ascontiguousarray(inputs[name]) for name in names}
        found = request.infer(feed)
        answers = {name: np.array(found[port]) for name, port in outputs.items()}
        start, runs = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            request.infer(feed, share_inputs=True, share_outputs=True)
            runs += 1
        elapsed = time.perf_counter() - start
        pipe.send((answers, runs * len(feed[names[0]]) / elapsed))
