"""The engines of the shipped bundle side by side, in process: images a second, and OpenVINO's ratio to Keras.

The two take turns, so that both see the same machine; what is printed are medians over the rounds.
"""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from photoz.bundle import ModelBundle
from service.engines import Engine, load_engine
from service.settings import Settings

BATCHES = (1, 8, 64)
ROUNDS = 5
SECONDS = 1.0  # of each engine in each round


def main() -> None:
    """Print the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    settings = Settings.from_environment()
    bundle = ModelBundle.load(settings.bundle)
    engines = {name: load_engine(bundle, name, settings.threads) for name in ("openvino", "keras")}
    print(f"{bundle.card.name} {bundle.card.version}, {settings.threads} threads, medians of {ROUNDS} rounds\n")
    print("| images a call | openvino /s | keras /s | ratio |\n| --- | --- | --- | --- |")
    for n in BATCHES:
        rates = _interleaved(engines, bundle, n)
        ratio = statistics.median(a / b for a, b in zip(rates["openvino"], rates["keras"], strict=True))
        columns = (f"{statistics.median(rates[name]):.0f}" for name in engines)
        print(f"| {n} | {' | '.join(columns)} | {ratio:.2f} |")


def _interleaved(engines: dict[str, Engine], bundle: ModelBundle, n: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    images = rng.normal(0.1, 0.1, (n, *bundle.card.image.shape)).astype(np.float32)
    ebv = np.full(n, 0.03, np.float32)
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            rates[name].append(n * _calls_per_second(lambda engine=engine: engine.predict(images, ebv)))
    return rates


def _calls_per_second(call: Callable[[], object]) -> float:
    call()  # a first call of a shape builds what later ones use
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        call()
        calls += 1
    return calls / elapsed


if __name__ == "__main__":
    main()
