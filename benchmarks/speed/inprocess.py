"""A network in a process of its own, without any server: the compiled engine of a bundle, or Keras.

    python -m benchmarks.speed.inprocess engine|predictor|keras BUNDLE
    python -m benchmarks.speed.inprocess document

Prints null when it is ready. Reads one JSON object per line and answers each with JSON: {"n": 64, "seconds": 3}
measures, {"n": 64} gives the PDFs of n cutouts. Between them it does nothing. "predictor" is the engine with all that
follows from its output; "document" is the document's network, untrained: weights make no difference to its speed.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.environment import CPUS, ENGINE_THREADS, ROOT, TENSORFLOW_THREADS
from photoz.images import as_ebv_batch, as_image_batch
from photoz.inference.engines import load_engine
from photoz.inference.predictor import Batch, Predictor
from photoz.model.bundle import ModelBundle

WARM_UP = 0.5  # seconds with each batch before the clock runs

Predict = Callable[[np.ndarray, np.ndarray], Any]


class InProcess:
    """Such a process; the parameters are the arguments of this script, and the threads of an engine."""

    def __init__(self, kind: str, *paths: str, threads: int = CPUS) -> None:
        ours = ENGINE_THREADS | {"PHOTOZ_THREADS": str(threads)}
        environment = {**os.environ, **(ours if kind in ("engine", "predictor") else TENSORFLOW_THREADS)}
        command = [sys.executable, "-m", "benchmarks.speed.inprocess", kind, *paths]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()  # until it is ready

    def measure(self, n: int, seconds: float) -> dict[str, float]:
        """Predict batches of n for so long; see `measure`."""
        return self._ask({"n": n, "seconds": seconds})

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


def measure(predict: Predict, n: int, seconds: float) -> dict[str, float]:
    """Measure images per second, and the median time of a call in milliseconds, with batches of n."""
    images, ebv = cutouts(n)
    _times(predict, images, ebv, WARM_UP)
    times = _times(predict, images, ebv, seconds)
    return {"images_per_s": n * len(times) / sum(times), "p50_ms": 1e3 * statistics.median(times)}


def _times(predict: Predict, images: np.ndarray, ebv: np.ndarray, seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        predict(images, ebv)
        times.append(time.perf_counter() - start)
    return times


def engine_of(bundle: Path) -> Predict:
    """Load the engine of a bundle that the service would choose, with as many threads."""
    preference, threads = os.environ.get("PHOTOZ_ENGINE") or "auto", int(os.environ["PHOTOZ_THREADS"])
    engine = load_engine(ModelBundle.load(bundle), preference, threads)
    return lambda images, ebv: engine.predict(images, ebv).pdfs


def predictor_of(bundle: Path) -> Predict:
    """Load the same as a `Predictor`, which validates cutouts and computes all columns."""
    loaded = ModelBundle.load(bundle)
    predictor, spec = Predictor.load(loaded, threads=int(os.environ["PHOTOZ_THREADS"])), loaded.card.image

    def predict(images: np.ndarray, ebv: np.ndarray) -> Any:
        return predictor.predict(Batch(as_image_batch(images, spec), as_ebv_batch(ebv, len(images), 0.0))).pdf

    return predict


def _load(kind: str, *paths: str) -> Predict:
    if kind == "engine":
        return engine_of(Path(*paths))
    if kind == "predictor":
        return predictor_of(Path(*paths))
    import keras  # not above: the engine is measured without TensorFlow

    if kind == "keras":
        model = keras.saving.load_model(ModelBundle.load(Path(*paths)).keras_path, compile=False, safe_mode=True)
    else:
        from photoz.grid import SDSS_GRID
        from photoz.images import SDSS_IMAGES
        from training.architectures.inception import build_inception

        model = build_inception(SDSS_IMAGES, SDSS_GRID)
    names = {tensor.name for tensor in model.inputs}

    def predict(images: np.ndarray, ebv: np.ndarray) -> Any:
        inputs = {"images": images, "ebv": ebv[:, None]}
        return model.predict_on_batch({name: inputs[name] for name in names})

    return predict


def main(arguments: list[str]) -> None:
    """Answer the questions on standard input until it ends."""
    predict = _load(*arguments)
    print("null", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "seconds" in question:
            print(json.dumps(measure(predict, **question)), flush=True)
        else:
            print(json.dumps(np.asarray(predict(*cutouts(**question))).tolist()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
