"""Engines: what runs the network of a bundle.

An engine has one method. Which one runs is decided once, in `load_engine`; nothing else in the service knows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from photoz.bundle import ModelBundle
from photoz.card import Card, EngineRecord
from photoz.errors import InvalidBundle
from photoz.grid import FloatArray
from photoz.novelty import FEATURES
from photoz.openvino import PDF, compile_network, extent, named_outputs, reason, runs
from photoz.pdf import from_network

Images = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[np.float32]]
Shape = Sequence[int | None]

AUTO, OPENVINO, KERAS = "auto", "openvino", "keras"

# Cutouts that go through the network at a time. More are no faster, and 64 keep the memory of the document's network
# below 1 GB.
CHUNK = 64

# Numbers of cutouts that the network is run on; others are filled up with blank ones. OpenVINO keeps what it compiles
# for each number that it meets: 260 MB for all up to 64, and the first request of each waits for it.
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, CHUNK)


@dataclass(frozen=True)
class Output:
    """What a network says of n cutouts.

    Parameters
    ----------
    pdfs : (n, n_bins) float64
        Probability mass per bin, rows sum to 1, not recalibrated; NaN where it found none.
    features : (n, n_features) float32, or None
        What it saw, if the bundle's `ood_score` needs that.
    """

    pdfs: FloatArray
    features: FloatArray | None


class Engine(Protocol):
    """Whatever runs a network."""

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> Output:
        """Predict.

        Parameters
        ----------
        images : (n, size, size, n_bands) float32
            Finite pixels.
        ebv : (n,) float32
            Reddening; not used by a network that does not take it.

        Returns
        -------
        Output
            Of n rows.
        """
        ...


class OpenVinoEngine:
    """The compiled network of a bundle.

    Parameters
    ----------
    bundle : ModelBundle
        The bundle.
    record : EngineRecord
        Which of its engines.
    threads : int
        CPU threads.

    Raises
    ------
    InvalidBundle
        If the network cannot be read or is not the one that the card describes.
    """

    def __init__(self, bundle: ModelBundle, record: EngineRecord, threads: int) -> None:
        compiled = _compile(bundle.path / record.path, record.precision or "f32", threads)
        inputs = {port.get_any_name(): extent(port) for port in compiled.inputs}
        outputs = named_outputs(compiled)
        shapes = {name: extent(port) for name, port in outputs.items()}
        self._outputs = {name: outputs[name] for name in check_network(bundle.card, inputs, shapes)}
        self._names = tuple(inputs)
        self._request = compiled.create_infer_request()
        self._lock = Lock()  # a request has one place for its outputs

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> Output:
        """See `Engine.predict`."""
        return _predict_in_chunks(self._infer, self._names, self._lock, images, ebv)

    def _infer(self, feed: Arrays) -> Arrays:
        answer = self._request.infer(feed, share_inputs=True, share_outputs=True)
        return {name: np.array(answer[port]) for name, port in self._outputs.items()}


class KerasEngine:
    """The saved Keras classifier of a bundle: slower than a compiled one, and the truth that it is checked against.

    Parameters
    ----------
    bundle : ModelBundle
        The bundle.

    Raises
    ------
    InvalidBundle
        If Keras is not there, or the network is not the one that the card describes.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        model = _load_keras(bundle.keras_path)
        inputs = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
        outputs = {PDF: model.output, **{layer.name: layer.output for layer in model.layers if layer.name == FEATURES}}
        shapes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
        wanted = check_network(bundle.card, inputs, shapes)
        self._model = type(model)(model.inputs, {name: outputs[name] for name in wanted})
        self._names = tuple(inputs)
        self._lock = Lock()

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> Output:
        """See `Engine.predict`."""
        return _predict_in_chunks(self._infer, self._names, self._lock, images, ebv)

    def _infer(self, feed: Arrays) -> Arrays:
        return {name: np.asarray(values) for name, values in self._model.predict_on_batch(feed).items()}


def engine_records(bundle: ModelBundle, preference: str = AUTO) -> tuple[EngineRecord, ...]:
    """Tell which compiled networks of a bundle serve a preference, whether or not this processor runs them.

    Parameters
    ----------
    bundle : ModelBundle
        The bundle.
    preference : str
        "auto" takes the compiled networks, or Keras where the bundle has none; "openvino" the compiled networks alone;
        any other is the name of an engine.

    Returns
    -------
    tuple of EngineRecord
        The best first; empty for Keras.

    Raises
    ------
    InvalidBundle
        If there is none.
    """
    compiled = bundle.card.engines
    if preference == KERAS or (preference == AUTO and not compiled):
        return ()
    found = tuple(record for record in compiled if preference in (AUTO, OPENVINO, record.name))
    if not found:
        kind = "OpenVINO engine" if preference == OPENVINO else f"engine {preference}"
        raise InvalidBundle(f"{bundle.path} holds no {kind}, which PHOTOZ_ENGINE asks for")
    for record in found:
        if record.path not in bundle.card.files:
            raise InvalidBundle(f"{bundle.path} holds no file {record.path}, which its card names as {record.name}")
    return found


def needs_bfloat16(bundle: ModelBundle, records: Sequence[EngineRecord]) -> InvalidBundle:
    """Make the error that says that this processor runs none of some engines."""
    names = ", ".join(record.name for record in records)
    return InvalidBundle(f"{names} of {bundle.path} needs a processor that multiplies in bfloat16")


def load_engine(bundle: ModelBundle, preference: str = AUTO, threads: int = 1) -> Engine:
    """Choose and load the engine of a bundle, and let it predict once.

    Parameters
    ----------
    bundle : ModelBundle
        The bundle.
    preference : str
        As for `engine_records`, of which the first is taken that this processor runs.
    threads : int
        CPU threads of a compiled network.

    Returns
    -------
    Engine
        Warm.

    Raises
    ------
    InvalidBundle
        If the bundle has no such engine, or its network is not the one that its card describes.
    """
    records = engine_records(bundle, preference)
    record = next((record for record in records if runs(record.precision)), None)
    if records and not record:
        raise needs_bfloat16(bundle, records)
    engine: Engine = OpenVinoEngine(bundle, record, threads) if record else KerasEngine(bundle)
    engine.predict(np.ones((1, *bundle.card.image.shape), np.float32), np.zeros(1, np.float32))
    return engine


def _compile(path: Path, precision: str, threads: int) -> Any:
    try:
        return compile_network(path, precision, threads)
    except RuntimeError as error:
        raise InvalidBundle(f"OpenVINO cannot read {path}: {reason(error)}") from error


def _load_keras(path: Path) -> Any:
    try:
        import keras  # here alone: serving a bundle with a compiled engine needs no TensorFlow
    except ImportError as error:
        raise InvalidBundle(f"{path} needs Keras and TensorFlow, which are not installed here") from error
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise InvalidBundle(f"Keras cannot read {path}: {error}") from error


def check_network(card: Card, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> tuple[str, ...]:
    """Compare what a network takes and gives with what its card says.

    Parameters
    ----------
    card : Card
        Of the bundle.
    inputs, outputs : mapping of str to shape
        By name; axis 0 is the number of cutouts.

    Returns
    -------
    tuple of str
        Names of the outputs that the card speaks of.

    Raises
    ------
    InvalidBundle
        If they differ.
    """
    takes: dict[str, tuple[int, ...]] = {"images": card.image.shape}
    if card.inputs.ebv:
        takes["ebv"] = (1,)
    gives = {PDF: (card.grid.n_bins,)}
    if card.novelty and card.novelty.n_features:
        gives[FEATURES] = (card.novelty.n_features,)
    found = {name: tuple(shape[1:]) for name, shape in inputs.items()}
    if found != takes:
        raise InvalidBundle(f"the network of {card.name} takes {found}; its card says {takes}")
    found = {name: tuple(shape[1:]) for name, shape in outputs.items()}
    if {name: found.get(name) for name in gives} != gives:
        raise InvalidBundle(f"the network of {card.name} gives {found}; its card says {gives}")
    return tuple(gives)


def _predict_in_chunks(
    infer: Callable[[Arrays], Mapping[str, npt.NDArray[np.float32]]],
    names: tuple[str, ...],
    lock: Lock,
    images: Images,
    ebv: npt.NDArray[np.float32],
) -> Output:
    """Run the network on a few cutouts at a time."""
    answers = []
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        n = len(ebv[rows])
        feed = {"images": _filled_up(images[rows]), "ebv": _filled_up(ebv[rows, np.newaxis])}
        with lock:
            answer = infer({name: feed[name] for name in names})
        answers.append({name: values[:n] for name, values in answer.items()})
    joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    return Output(from_network(joined[PDF]), joined.get(FEATURES))


def _filled_up(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Add zeros to the next of `SIZES`."""
    missing = next(size for size in SIZES if size >= len(values)) - len(values)
    return np.concatenate([values, np.zeros_like(values, shape=(missing, *values.shape[1:]))]) if missing else values
