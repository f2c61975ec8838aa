"""A network in a process of its own, without any server: `engine`, `predictor` or `keras`.

    python -m benchmarks.speed.inprocess engine|predictor|keras BUNDLE

Prints null when it is ready. Reads one JSON object per line and answers each with JSON: {"n": 64, "seconds": 3}
measures, {"n": 64} gives the PDFs of n cutouts. Between them it does nothing. "engine" is the compiled network that the
service would choose; "predictor" also validates cutouts and computes all columns.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.environment import CPUS, ENGINE_THREADS, ROOT, TENSORFLOW_THREADS
from photoz.images import Batch
from photoz.inference.engines import load_engine
from photoz.inference.predictor import Predictor
from photoz.model.bundle import ModelBundle

WARM_UP = 0.5  # seconds with each batch before the clock runs

Predict = Callable[[np.ndarray, np.ndarray], Any]


class InProcess:
    """Such a process; the parameters are the arguments of this script, and the threads of an engine."""

    def __init__(self, kind: str, bundle: Path, threads: int = CPUS) -> None:
        variables = TENSORFLOW_THREADS if kind == "keras" else ENGINE_THREADS | {"PHOTOZ_THREADS": str(threads)}
        command = [sys.executable, "-m", "benchmarks.speed.inprocess", kind, str(bundle)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **variables}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()  # until it is ready

    def measure(self, n: int, seconds: float) -> float:
        """Predict batches of n for some seconds; return images per second."""
        return float(self._ask({"n": n, "seconds": seconds}))

    def pdfs(self, n: int) -> np.ndarray:
        """Return the PDFs of n cutouts, (n, n_bins)."""
        return np.array(self._ask({"n": n}))

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _ask(self, question: dict[str, Any]) -> Any:
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process ended; see its message above")
        return json.loads(line)


def measure(predict: Predict, n: int, seconds: float) -> float:
    """Measure images per second with batches of n."""
    images, ebv = cutouts(n)
    for duration in (WARM_UP, seconds):
        calls, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < duration:
            predict(images, ebv)
            calls += 1
    return n * calls / took


def load_engine_alone(bundle: ModelBundle) -> Predict:
    """Load the engine that the service would choose."""
    engine = load_engine(bundle, os.environ.get("PHOTOZ_ENGINE") or "auto", int(os.environ["PHOTOZ_THREADS"]))
    return lambda images, ebv: engine.predict(images, ebv).pdfs


def load_predictor(bundle: ModelBundle) -> Predict:
    """Load the same as a `Predictor`."""
    predictor, spec = Predictor.load(bundle, threads=int(os.environ["PHOTOZ_THREADS"])), bundle.card.image

    def predict(images: np.ndarray, ebv: np.ndarray) -> Any:
        return predictor.predict(Batch.of(images, spec, ebv, 0.0)).pdf

    return predict


def load_keras(bundle: ModelBundle) -> Predict:
    """Load model.keras."""
    import keras  # not above: the engine is measured without TensorFlow

    model = keras.saving.load_model(bundle.keras_path, compile=False, safe_mode=True)
    names = {tensor.name for tensor in model.inputs}

    def predict(images: np.ndarray, ebv: np.ndarray) -> Any:
        inputs = {"images": images, "ebv": ebv[:, None]}
        return model.predict_on_batch({name: inputs[name] for name in names})

    return predict


KINDS = {"engine": load_engine_alone, "predictor": load_predictor, "keras": load_keras}


def main(kind: str, bundle: str) -> None:
    """Answer the questions on standard input until it ends."""
    predict = KINDS[kind](ModelBundle.load(Path(bundle)))
    print("null", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "seconds" in question:
            answer: Any = measure(predict, question["n"], question["seconds"])
        else:
            answer = np.asarray(predict(*cutouts(question["n"]))).tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
