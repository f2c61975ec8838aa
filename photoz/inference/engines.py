"""Inference engines: OpenVINO and Keras, behind one method, `predict`; `load_engine` chooses one."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidBundle
from photoz.grid import FloatArray
from photoz.inference.openvino import PDF, compile_network, extent, import_openvino, named_outputs, runs
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card, EngineRecord
from photoz.ood import FEATURES
from photoz.pdf import from_network

Images = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[np.float32]]
Shape = Sequence[int | None]

AUTO, OPENVINO, KERAS = "auto", "openvino", "keras"

# Largest batch that the network runs on. Larger batches are no faster, and with 64 cutouts the "inception" network
# takes less than 1 GB of memory.
MAX_BATCH = 64

# Batch sizes that the network runs on; other batches are padded with blank cutouts. OpenVINO compiles and keeps code
# for each size, 75 MB for these and 260 MB for all sizes up to 64, while the first batch of the size waits.
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, MAX_BATCH)


@dataclass(frozen=True)
class NetworkOutput:
    """Output of a network for n cutouts."""

    pdfs: FloatArray  # (n, n_bins) float64, rows sum to 1, not recalibrated; NaN if the network overflowed
    features: FloatArray | None  # (n, n_features) float32 for the `ood_score`, if the bundle uses them


class Engine(Protocol):
    """Runs a network."""

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> NetworkOutput:
        """Run the network on images, (n, size, size, n_bands) with finite pixels, and E(B-V), (n,), if it uses it."""
        ...


@dataclass(frozen=True)
class NetworkSignature:
    """Shapes of a network's inputs and outputs by name, without the batch axis."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]

    @classmethod
    def of(cls, card: Card) -> "NetworkSignature":
        """Return the signature in a model card."""
        inputs: dict[str, Shape] = {"images": card.image.shape}
        if card.inputs.ebv:
            inputs["ebv"] = (1,)
        outputs: dict[str, Shape] = {PDF: (card.grid.n_bins,)}
        if card.ood and card.ood.n_features:
            outputs[FEATURES] = (card.ood.n_features,)
        return cls(inputs, outputs)

    def check(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
        """Raise `InvalidBundle` if the inputs of a network differ, or if it lacks one of the outputs.

        Here the first axis of each shape is that of the cutouts.
        """
        shapes = {name: tuple(shape[1:]) for name, shape in inputs.items()}
        if shapes != self.inputs:
            raise InvalidBundle(f"the network takes {shapes}; its card says {self.inputs}")
        shapes = {name: tuple(shape[1:]) for name, shape in outputs.items()}
        if {name: shapes.get(name) for name in self.outputs} != self.outputs:
            raise InvalidBundle(f"the network gives {shapes}; its card says {self.outputs}")


class _BatchedEngine:
    """Runs a network on at most `MAX_BATCH` cutouts at a time, by one thread at a time."""

    def __init__(self, inputs: Iterable[str]) -> None:
        self._inputs, self._lock = tuple(inputs), Lock()

    def _infer(self, feed: Arrays) -> Arrays:
        """Return the outputs of the network by name, for inputs with a length of `BATCH_SIZES`."""
        raise NotImplementedError

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> NetworkOutput:
        """See `Engine.predict`."""
        outputs = []
        for start in range(0, len(images), MAX_BATCH):
            rows = slice(start, start + MAX_BATCH)
            n = len(ebv[rows])
            feed = {"images": _padded(images[rows]), "ebv": _padded(ebv[rows, np.newaxis])}
            with self._lock:  # an OpenVINO request has one buffer for outputs
                output = self._infer({name: feed[name] for name in self._inputs})
            outputs.append({name: values[:n] for name, values in output.items()})
        joined = {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}
        return NetworkOutput(from_network(joined[PDF]), joined.get(FEATURES))


class OpenVinoEngine(_BatchedEngine):
    """A network compiled by OpenVINO from its .xml file; raises `InvalidBundle` if its signature differs."""

    def __init__(self, path: Path, precision: str, threads: int, signature: NetworkSignature) -> None:
        compiled = compile_network(path, precision, threads)
        inputs = {port.get_any_name(): extent(port) for port in compiled.inputs}
        outputs = named_outputs(compiled)
        signature.check(inputs, {name: extent(port) for name, port in outputs.items()})
        super().__init__(inputs)
        self._outputs = {name: outputs[name] for name in signature.outputs}
        self._request, self._tensor = compiled.create_infer_request(), import_openvino().Tensor

    def _infer(self, feed: Arrays) -> Arrays:
        # Arrays passed to `infer` would stay in memory until the next request, and with them the whole batch.
        for name, values in feed.items():
            self._request.set_tensor(name, self._tensor(values, shared_memory=values.flags.writeable))
        outputs = self._request.infer(share_outputs=True)
        return {name: np.array(outputs[port]) for name, port in self._outputs.items()}


class KerasEngine(_BatchedEngine):
    """A Keras classifier: slower than compiled networks, and the reference for their checks.

    If the signature has the output "features", the model has a layer of that name. Raises `InvalidBundle` if its
    signature differs.
    """

    def __init__(self, model: Any, signature: NetworkSignature) -> None:
        inputs = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
        outputs = {PDF: model.output, **{layer.name: layer.output for layer in model.layers if layer.name == FEATURES}}
        signature.check(inputs, {name: tuple(tensor.shape) for name, tensor in outputs.items()})
        super().__init__(inputs)
        self._model = type(model)(model.inputs, {name: outputs[name] for name in signature.outputs})

    def _infer(self, feed: Arrays) -> Arrays:
        return {name: np.asarray(values) for name, values in self._model.predict_on_batch(feed).items()}


def engine_records(bundle: ModelBundle, preference: str = AUTO) -> tuple[EngineRecord, ...]:
    """Return the compiled networks of a bundle that fit a preference, the best first; none for Keras.

    The preference "auto" chooses the compiled networks, or Keras if the bundle has none; "openvino" the compiled
    networks only; any other value is the name of an engine. Whether this processor runs them is not checked. Raises
    `InvalidBundle` if the bundle has no such engine.
    """
    compiled = bundle.card.engines
    if preference == KERAS or (preference == AUTO and not compiled):
        return ()
    records = tuple(record for record in compiled if preference in (AUTO, OPENVINO, record.name))
    if not records:
        available = ", ".join([*(record.name for record in compiled), KERAS])
        raise InvalidBundle(f"{bundle.path} has no engine {preference}; it has {available}")
    for record in records:
        if record.path not in bundle.card.files:
            raise InvalidBundle(f"{bundle.path} has no file {record.path}, which its card names as {record.name}")
    return records


def needs_bfloat16(bundle: ModelBundle, records: Sequence[EngineRecord]) -> InvalidBundle:
    """Return the error for a processor that runs none of these engines."""
    names = ", ".join(record.name for record in records)
    return InvalidBundle(f"{names} of {bundle.path} needs a processor with bfloat16 arithmetic")


def load_engine(
    bundle: ModelBundle, preference: str = AUTO, threads: int = 1, batch_sizes: Sequence[int] = (1,)
) -> Engine:
    """Load the first engine of `engine_records` that this processor runs, and run it on a batch of each size.

    Raises `InvalidBundle` if there is none, or if its network differs from the model card.
    """
    records, signature = engine_records(bundle, preference), NetworkSignature.of(bundle.card)
    record = next((record for record in records if runs(record.precision)), None)
    if records and not record:
        raise needs_bfloat16(bundle, records)
    engine: Engine
    if record:
        engine = OpenVinoEngine(bundle.path / record.path, record.precision, threads, signature)
    else:
        engine = KerasEngine(_load_keras(bundle.keras_path), signature)
    for n in batch_sizes:
        engine.predict(np.ones((n, *bundle.card.image.shape), np.float32), np.zeros(n, np.float32))
    return engine


def _load_keras(path: Path) -> Any:
    try:
        import keras  # only here: a compiled engine needs no TensorFlow
    except ImportError as error:
        raise InvalidBundle(f"{path} needs Keras and TensorFlow, which are not installed") from error
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise InvalidBundle(f"Keras cannot read {path}: {error}") from error


def _padded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pad with zeros to the next of `BATCH_SIZES`."""
    missing = BATCH_SIZES[bisect_left(BATCH_SIZES, len(values))] - len(values)
    return np.concatenate([values, np.zeros_like(values, shape=(missing, *values.shape[1:]))]) if missing else values
