"""Compile a network for serving without TensorFlow: fast copies, each checked against Keras before it is written.

The copies are tried in this order, each in a process of its own (`training.trial`), and each has to answer like Keras
on the test galaxies (`training.export_check`):

* **int8**: all layers that NNCF can quantise; if the check refuses that, the convolutions alone, with more care;
* **bf16**: the float32 copy computed in bfloat16, where the processor can;
* **f32**: it is in every bundle, and nothing is written if even that one is refused.

Those that pass are raced, and the card names the fastest first. Which one that is depends on the processor, so an order
written down beforehand would be wrong somewhere: without instructions for it, int8 is no faster than float32.
"""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from photoz.errors import InvalidBundle, InvalidDataset
from photoz.grid import IntArray
from photoz.inference.openvino import runs
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.model.card import EngineCheck, EngineRecord
from training.export_check import BATCH, Difference, Model, ask, compare
from training.intermediate import save, to_openvino, with_features
from training.predict import network_inputs
from training.quantise import Scope, quantise
from training.rows import usable_rows
from training.trial import Refused, Trial

F32_PATH = "openvino/model.xml"
INT8_PATH = "openvino/int8.xml"

# Cutouts to quantise by: NNCF's own default.
N_SAMPLES = 300

ROUNDS = 5
SECONDS = 0.3  # of each engine in each round

Precision = Literal["f32", "bf16"]


def export_engines(
    network: keras.Model, cutouts: Cutouts, model: Model, folder: Path, *, only_f32: bool = False
) -> tuple[EngineRecord, ...]:
    """Write compiled copies of a network that answer like it.

    Parameters
    ----------
    network : keras.Model
        With inputs named `images` and perhaps `ebv`. If it has a layer "features", the copies give that too: their
        outputs are then named "pdf" and "features".
    cutouts : Cutouts
        Open, with z_spec and split. The training galaxies are quantised by; the test galaxies, or the validation
        galaxies where there are none, are compared on.
    model : Model
        What else belongs to the network: the answers are compared as they are served.
    folder : Path
        The bundle to be; the files go to `openvino/` inside.
    only_f32 : bool
        Leave the fast copies out.

    Returns
    -------
    tuple of EngineRecord
        The fastest first.

    Raises
    ------
    InvalidBundle
        If not even the copy in float32 gives the answers of the original.
    """
    converted = to_openvino(network)
    save(converted, folder / F32_PATH)
    with ExitStack() as running:
        judge = _Judge(network, cutouts, model, folder, running)
        engines = [] if only_f32 else _fast_engines(judge, converted)
        try:
            engines.append(judge.passed("openvino-f32", F32_PATH, "f32"))
        except Refused as error:
            raise InvalidBundle(f"the OpenVINO copy in float32 does not answer as Keras does: {error}") from error
        return _raced(engines, judge.inputs(judge.rows[:BATCH]))


@dataclass(frozen=True)
class _Engine:
    """A compiled network that answers as Keras does and waits in a process of its own."""

    name: str
    path: str
    precision: Precision
    difference: Difference
    trial: Trial


class _Judge:
    """Keras's answers for the galaxies that copies are compared on."""

    def __init__(self, network: keras.Model, cutouts: Cutouts, model: Model, folder: Path, running: ExitStack) -> None:
        self.cutouts, self._model, self._folder, self._running = cutouts, model, folder, running
        self.rows = _compared_rows(cutouts, model)
        asked = with_features(network)
        names = [tensor.name for tensor in asked.inputs]
        self._keras = ask(
            lambda inputs: asked.predict_on_batch({name: inputs[name] for name in names}), cutouts, self.rows, model
        )

    def inputs(self, rows: IntArray) -> dict[str, np.ndarray]:
        """Read the inputs of a network for some galaxies."""
        return network_inputs(self.cutouts, rows, self._model.spec, self._model.ebv_assumed)

    def passed(self, name: str, path: str, precision: Precision) -> _Engine:
        """Try a copy in a process of its own, which goes on to run if the answers are good; `Refused` if not."""
        trial = self._running.enter_context(Trial(self._folder / path, precision))
        answers = ask(trial.infer, self.cutouts, self.rows, self._model)
        difference = compare(answers, self._keras, self.cutouts.column("z_spec")[self.rows], self._model.grid)
        if objections := difference.objections():
            raise Refused("; ".join(objections))
        return _Engine(name, path, precision, difference, trial)

    def discard(self, path: str) -> None:
        """Take away the files of a copy that was refused."""
        for suffix in (".xml", ".bin"):
            (self._folder / path).with_suffix(suffix).unlink(missing_ok=True)

    def write(self, network: Any, path: str) -> None:
        """Write a copy into the bundle to be."""
        save(network, self._folder / path)


def _compared_rows(cutouts: Cutouts, model: Model) -> IntArray:
    try:
        return usable_rows(cutouts, model.grid, TEST)
    except InvalidDataset:
        return usable_rows(cutouts, model.grid, VALIDATION)


def _fast_engines(judge: _Judge, converted: Any) -> list[_Engine]:
    found = []
    samples = _samples(judge, converted)
    for scope in Scope:
        try:
            judge.write(quantise(converted, samples, scope), INT8_PATH)
            found.append(judge.passed("openvino-int8", INT8_PATH, "f32"))
            break
        except Refused as error:
            judge.discard(INT8_PATH)
            print(f"openvino-int8 of {scope.value} is left out: {error}")
    if runs("bf16"):
        try:
            found.append(judge.passed("openvino-bf16", F32_PATH, "bf16"))
        except Refused as error:
            print(f"openvino-bf16 is left out: {error}")
    return found


def _samples(judge: _Judge, converted: Any) -> list[dict[str, np.ndarray]]:
    """Inputs of some training galaxies, one each: a chance choice, which is the same each time."""
    train = judge.cutouts.rows(TRAIN)
    rows = np.sort(np.random.default_rng(0).permutation(train)[:N_SAMPLES])
    inputs = judge.inputs(rows)
    names = [port.get_any_name() for port in converted.inputs]
    return [{name: inputs[name][row : row + 1] for name in names} for row in range(len(rows))]


def _raced(engines: Sequence[_Engine], inputs: dict[str, np.ndarray]) -> tuple[EngineRecord, ...]:
    """Measure engines in turns, so that all see the same machine, and describe them, the fastest first."""
    rates = [[engine.trial.rate(inputs, SECONDS) for engine in engines] for _ in range(ROUNDS)]
    medians = [statistics.median(of_one) for of_one in zip(*rates, strict=True)]
    records = [_record(engine, rate) for engine, rate in zip(engines, medians, strict=True)]
    return tuple(record for _, record in sorted(zip(medians, records, strict=True), key=lambda pair: -pair[0]))


def _record(engine: _Engine, rate: float) -> EngineRecord:
    difference = engine.difference
    return EngineRecord(
        name=engine.name,
        path=engine.path,
        max_z_mean_difference=difference.max_z_mean_difference,
        n_compared=difference.n_compared,
        precision=engine.precision,
        check=EngineCheck(
            crps_ratio=difference.crps_ratio,
            sigma_mad_ratio=difference.sigma_mad_ratio,
            z_mean_agreement=difference.z_mean_agreement,
            flag_changes=difference.flag_changes,
            images_per_second=rate,
        ),
    )
