"""Export of a network to OpenVINO: fast copies, each checked against Keras before it is written.

The copies are tried in this order, each in a child process (`training.child_engine`), and each has to agree with Keras
on the test galaxies (`training.export_check`):

* **int8**: all layers that NNCF can quantise or, if the check rejects that, only the convolutions, with more care;
* **bf16**: the float32 copy computed in bfloat16, if the processor supports it;
* **f32**: every bundle has it; if it is rejected, nothing is written.

The accepted copies are timed, and the card lists the fastest first. The order depends on the processor: without
instructions for int8, it is no faster than float32.
"""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from photoz.errors import InvalidBundle, InvalidDataset
from photoz.grid import IntArray, RedshiftGrid
from photoz.images import Batch
from photoz.inference.engines import MAX_BATCH
from photoz.inference.openvino import import_converter, import_openvino, runs
from photoz.inference.reading import read_batch
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.model.bundle import KERAS_NAME
from photoz.model.card import EngineCheck, EngineRecord
from training.child_engine import ChildEngine, EngineRejected, child_engine
from training.export_check import Difference, compare
from training.quantise import Scope, quantise
from training.splits import numbers, usable_rows
from training.trained_model import TrainedModel, network_outputs, network_signature

F32_PATH = "openvino/model.xml"
INT8_PATH = "openvino/int8.xml"

N_SAMPLES = 300  # training galaxies for quantisation: NNCF's default

ROUNDS = 5
SECONDS_PER_ROUND = 0.3

Precision = Literal["f32", "bf16"]


def export_engines(
    model: TrainedModel, cutouts: Cutouts, folder: Path, *, only_f32: bool = False
) -> tuple[EngineRecord, ...]:
    """Write compiled copies of a network to `openvino/` in a folder and return their records, the fastest first.

    The network is quantised with training galaxies, and compared with Keras on the test galaxies or, without any, on
    the validation galaxies or those of the training. Raises `InvalidBundle` if the copy in float32 does not agree with
    Keras.
    """
    converted = to_openvino(model.network)
    save(converted, folder / F32_PATH)
    with ExitStack() as processes:
        checker = _Checker(model, cutouts, folder, processes)
        engines = [] if only_f32 else _fast_engines(checker, converted)
        try:
            engines.append(checker.accept("openvino-f32", F32_PATH, "f32"))
        except EngineRejected as error:
            raise InvalidBundle(f"the OpenVINO copy in float32 does not agree with Keras: {error}") from error
        return _by_speed(engines, checker.read(checker.rows[:MAX_BATCH]))


def to_openvino(network: keras.Model) -> Any:
    """Convert a network to an `openvino.Model` for any number of cutouts, with the outputs "pdf" and "features"."""
    # The file must not depend on how many models Keras has numbered, nor on the name of the temporary folder.
    renamed = keras.Model(network.inputs, network_outputs(network), name=network.name)
    with tempfile.TemporaryDirectory() as scratch:
        renamed.export(scratch, format="tf_saved_model", verbose=False)
        converted = import_converter()(scratch)
    converted.set_rt_info(KERAS_NAME, ["conversion_parameters", "input_model"])
    return converted


def save(network: Any, path: Path) -> None:
    """Write a network as `path` and a .bin file, with float32 weights: float16 weights shift z_mean."""
    import_openvino().save_model(network, path, compress_to_fp16=False)


@dataclass(frozen=True)
class _Engine:
    """An accepted copy, loaded in its process."""

    name: str
    path: str
    precision: Precision
    difference: Difference
    process: ChildEngine


class _Checker:
    """Compares copies with Keras's predictions for the same galaxies."""

    def __init__(self, model: TrainedModel, cutouts: Cutouts, folder: Path, processes: ExitStack) -> None:
        self.cutouts, self.folder, self._model, self._processes = cutouts, folder, model, processes
        self.rows = _rows_to_compare(cutouts, model.grid)
        self._keras = model.predict(cutouts, self.rows)

    def read(self, rows: IntArray) -> Batch:
        return read_batch(self.cutouts, rows, self._model.spec, self._model.ebv_default)

    def accept(self, name: str, path: str, precision: Precision) -> _Engine:
        """Load a copy in a process and compare its predictions; raises `EngineRejected`."""
        signature = network_signature(self._model.network)
        engine = self._processes.enter_context(child_engine(self.folder / path, precision, signature))
        predictions = self._model.predict(self.cutouts, self.rows, engine)
        difference = compare(predictions, self._keras, numbers(self.cutouts, "z_spec", self.rows), self._model.grid)
        if objections := difference.objections():
            raise EngineRejected("; ".join(objections))
        return _Engine(name, path, precision, difference, engine)


def _rows_to_compare(cutouts: Cutouts, grid: RedshiftGrid) -> IntArray:
    for split in (TEST, VALIDATION):
        with suppress(InvalidDataset):
            return usable_rows(cutouts, grid, split)
    return usable_rows(cutouts, grid, TRAIN)


def _fast_engines(checker: _Checker, converted: Any) -> list[_Engine]:
    engines = []
    samples = _samples(checker, converted)
    for scope in Scope:
        try:
            save(quantise(converted, samples, scope), checker.folder / INT8_PATH)
            engines.append(checker.accept("openvino-int8", INT8_PATH, "f32"))
            break
        except EngineRejected as error:
            for suffix in (".xml", ".bin"):
                (checker.folder / INT8_PATH).with_suffix(suffix).unlink(missing_ok=True)
            print(f"openvino-int8 of {scope.value} is left out: {error}")
    if runs("bf16"):
        try:
            engines.append(checker.accept("openvino-bf16", F32_PATH, "bf16"))
        except EngineRejected as error:
            print(f"openvino-bf16 is left out: {error}")
    return engines


def _samples(checker: _Checker, converted: Any) -> list[dict[str, np.ndarray]]:
    """Read the inputs of some training galaxies, always the same random ones, each as a batch of one."""
    train = checker.cutouts.rows(TRAIN)
    batch = checker.read(np.sort(np.random.default_rng(0).permutation(train)[:N_SAMPLES]))
    inputs = {"images": batch.images, "ebv": batch.ebv[:, np.newaxis]}
    names = [port.get_any_name() for port in converted.inputs]
    return [{name: inputs[name][row : row + 1] for name in names} for row in range(len(batch))]


def _by_speed(engines: Sequence[_Engine], batch: Batch) -> tuple[EngineRecord, ...]:
    """Time engines in turns, so that all run under the same load, and return their records, the fastest first."""
    images, ebv = batch.images, batch.ebv
    rounds = [
        [engine.process.images_per_second(images, ebv, SECONDS_PER_ROUND) for engine in engines] for _ in range(ROUNDS)
    ]
    medians = [statistics.median(of_engine) for of_engine in zip(*rounds, strict=True)]
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
