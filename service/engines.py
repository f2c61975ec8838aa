"""Engines: what runs the network of a bundle.

An engine has one method. Which one runs is decided once, in `load_engine`; nothing else in the service knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from photoz.bundle import ModelBundle
from photoz.card import Card, EngineRecord
from photoz.errors import InvalidBundle, InvalidImages
from photoz.grid import FloatArray
from photoz.novelty import FEATURES
from photoz.openvino import import_openvino

Images = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[np.float32]]
Shape = tuple[int | None, ...]

PDF = "pdf"

# Cutouts that go through the network at a time. More are no faster, and 64 keep the memory of the document's network
# below 1 GB.
CHUNK = 64


@dataclass(frozen=True)
class Output:
    """What a network says of n cutouts.

    Parameters
    ----------
    pdfs : (n, n_bins) float64
        Probability mass per bin, rows sum to 1, not recalibrated.
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

        Raises
        ------
        InvalidImages
            If the network finds no finite PDF for a cutout, since its pixels are beyond all measure.
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
        if record.path not in bundle.card.files:
            raise InvalidBundle(f"{bundle.path} holds no file {record.path}, which its card names as {record.name}")
        self._compiled = _compile(bundle.path / record.path, threads)
        inputs = {port.get_any_name(): _extent(port.get_partial_shape()) for port in self._compiled.inputs}
        self._outputs = _named(self._compiled.outputs)
        outputs = {name: _extent(port.get_partial_shape()) for name, port in self._outputs.items()}
        _check_network(bundle.card, inputs, outputs)
        self._names = tuple(inputs)
        self._lock = Lock()

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> Output:
        """See `Engine.predict`."""
        return _predict_in_chunks(self._infer, self._names, self._lock, images, ebv)

    def _infer(self, feed: Arrays) -> Arrays:
        answer = self._compiled(feed)
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
        outputs = {PDF: model.output}
        if bundle.card.novelty and bundle.card.novelty.n_features:
            outputs |= {layer.name: layer.output for layer in model.layers if layer.name == FEATURES}
        _check_network(bundle.card, inputs, {name: tuple(tensor.shape) for name, tensor in outputs.items()})
        self._model = type(model)(model.inputs, outputs)
        self._names = tuple(inputs)
        self._lock = Lock()

    def predict(self, images: Images, ebv: npt.NDArray[np.float32]) -> Output:
        """See `Engine.predict`."""
        return _predict_in_chunks(self._infer, self._names, self._lock, images, ebv)

    def _infer(self, feed: Arrays) -> Arrays:
        return {name: np.asarray(values) for name, values in self._model.predict_on_batch(feed).items()}


def load_engine(bundle: ModelBundle, preference: str = "auto", threads: int = 1) -> Engine:
    """Choose and load the engine of a bundle, and let it predict once.

    Parameters
    ----------
    bundle : ModelBundle
        The bundle.
    preference : {"auto", "openvino", "keras"}
        "auto" takes the compiled network where the bundle has one.
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
    record = next((record for record in bundle.card.engines if record.name.startswith("openvino")), None)
    if preference == "openvino" and record is None:
        raise InvalidBundle(f"{bundle.path} holds no OpenVINO engine, which PHOTOZ_ENGINE asks for")
    if record is None or preference == "keras":
        engine: Engine = KerasEngine(bundle)
    else:
        engine = OpenVinoEngine(bundle, record, threads)
    engine.predict(np.ones((1, *bundle.card.image.shape), np.float32), np.zeros(1, np.float32))
    return engine


def _compile(path: Path, threads: int) -> Any:
    # Set on purpose: where the CPU has bfloat16 it is OpenVINO's default, and with it some networks end the process
    # with a floating point exception.
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    try:
        return import_openvino().Core().compile_model(path, "CPU", config)
    except RuntimeError as error:
        raise InvalidBundle(f"OpenVINO cannot read {path}: {str(error).strip().splitlines()[-1]}") from error


def _extent(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if dimension.is_dynamic else dimension.get_length() for dimension in shape)


def _load_keras(path: Path) -> Any:
    try:
        import keras  # here alone: serving a bundle with a compiled engine needs no TensorFlow
    except ImportError as error:
        raise InvalidBundle(f"{path} needs Keras and TensorFlow, which are not installed here") from error
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise InvalidBundle(f"Keras cannot read {path}: {error}") from error


def _named(ports: list[Any]) -> dict[str, Any]:
    """Name the outputs of a compiled network; the only one is the PDF, whatever it is called."""
    return {PDF: ports[0]} if len(ports) == 1 else {port.get_any_name(): port for port in ports}


def _check_network(card: Card, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> None:
    """Compare what a network takes and gives with what its card says; axis 0 is the number of cutouts."""
    takes: dict[str, tuple[int, ...]] = {"images": card.image.shape}
    if card.inputs.ebv:
        takes["ebv"] = (1,)
    gives = {PDF: (card.grid.n_bins,)}
    if card.novelty and card.novelty.n_features:
        gives[FEATURES] = (card.novelty.n_features,)
    found = {name: shape[1:] for name, shape in inputs.items()}
    if found != takes:
        raise InvalidBundle(f"the network of {card.name} takes {found}; its card says {takes}")
    found = {name: shape[1:] for name, shape in outputs.items()}
    if {name: found.get(name) for name in gives} != gives:
        raise InvalidBundle(f"the network of {card.name} gives {found}; its card says {gives}")


def _predict_in_chunks(
    infer: Callable[[Arrays], Mapping[str, npt.NDArray[np.float32]]],
    names: tuple[str, ...],
    lock: Lock,
    images: Images,
    ebv: npt.NDArray[np.float32],
) -> Output:
    """Run the network on a few cutouts at a time; the lock is let go between, so that small requests slip in."""
    answers = []
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        feed = {"images": images[rows], "ebv": ebv[rows, np.newaxis]}
        with lock:
            answers.append(infer({name: feed[name] for name in names}))
    joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    return Output(_normalised(joined[PDF].astype(np.float64)), joined.get(FEATURES))


def _normalised(pdfs: FloatArray) -> FloatArray:
    good = np.isfinite(pdfs).all(axis=1) & (pdfs >= 0).all(axis=1) & pdfs.any(axis=1)
    if not good.all():
        raise InvalidImages(
            f"the network finds no PDF for cutout {int(np.argmin(good))}: its pixel values are beyond all measure"
        )
    return np.asarray(pdfs / pdfs.sum(axis=1, keepdims=True))
