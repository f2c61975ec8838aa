"""A trained network with all that its predictions depend on, and predictions for cutouts on disk."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
from tqdm import tqdm

from photoz import ood
from photoz.calibration import Calibration
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import Batch, ImageSpec
from photoz.inference.engines import Engine, KerasEngine, NetworkSignature
from photoz.inference.openvino import PDF
from photoz.inference.predictor import Predictor, load_feature_groups
from photoz.inference.reading import BATCH_ROWS, read_batches
from photoz.io.cutouts import Cutouts
from photoz.model.bundle import ModelBundle
from photoz.ood import FEATURES, FeatureGroups


@dataclass(frozen=True)
class Predictions:
    """Predictions for n galaxies."""

    raw_pdfs: FloatArray  # (n, n_bins) probability mass per bin, NaN where the network's output was not finite
    pdfs: FloatArray  # the same, recalibrated
    ood_scores: FloatArray  # (n,) NaN for a model without feature groups
    flags: IntArray  # (n,) bit masks of `photoz.flags.Flag`


@dataclass(frozen=True)
class TrainedModel:
    """A Keras network and everything else that its predictions depend on, as for the `Predictor`."""

    network: keras.Model  # takes `images` and possibly `ebv`; a layer "features" is used for the `ood_score`
    spec: ImageSpec
    grid: RedshiftGrid
    ebv_default: float  # replaces an unknown E(B-V)
    calibration: Calibration | None = None
    feature_groups: FeatureGroups = field(default_factory=dict)  # without any, `ood_score` is NaN
    ood_threshold: float = math.inf
    z_range: tuple[float, float] = (0.0, math.inf)

    @classmethod
    def load(cls, bundle: ModelBundle, *, recalibrate: bool = True) -> "TrainedModel":
        """Load the Keras model of a bundle; raises `InvalidBundle` if its card describes another network."""
        card = bundle.card
        network = keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)
        KerasEngine(network, NetworkSignature.of(card))
        return cls(
            network,
            card.image,
            card.grid,
            card.inputs.ebv_default,
            calibration=bundle.calibration if recalibrate else None,
            feature_groups=load_feature_groups(bundle) or {},
            ood_threshold=card.ood.threshold if card.ood else math.inf,
            z_range=card.training.z_range,
        )

    def predict(self, cutouts: Cutouts, rows: IntArray, engine: Engine | None = None) -> Predictions:
        """Predict rows (n,) of cutouts with the network in Keras, or in another engine.

        Each image is read once, and the network runs on it once.
        """
        predictor = Predictor(
            engine or keras_engine(self.network),
            self.grid,
            calibration=self.calibration,
            feature_groups=self.feature_groups or None,
            ood_threshold=self.ood_threshold,
            z_range=self.z_range,
            takes_ebv="ebv" in network_signature(self.network).inputs,
        )
        n, n_bins = len(rows), self.grid.n_bins  # joined from parts, they would be in memory twice
        predictions = Predictions(np.empty((n, n_bins)), np.empty((n, n_bins)), np.empty(n), np.empty(n, np.int32))
        stop = 0
        for batch in _read_batches(cutouts, rows, self.spec, self.ebv_default):
            output = predictor.run_network(batch)
            columns = predictor.summarise(batch, output, frozenset({"ood_score", "flags"}))
            part = slice(stop, stop := stop + len(batch))
            predictions.raw_pdfs[part], predictions.pdfs[part] = output.pdfs, columns["pdf"]
            predictions.ood_scores[part], predictions.flags[part] = columns["ood_score"], columns["flags"]
        return predictions

    def features(self, cutouts: Cutouts, rows: IntArray) -> dict[str, FloatArray]:
        """Extract the features of rows (n,) for the `ood_score`: (n, p) float64 for each feature group, by name."""
        engine = keras_engine(self.network)
        parts = []
        for batch in _read_batches(cutouts, rows, self.spec, self.ebv_default):
            features = engine.predict(batch.images, batch.ebv).features
            parts.append(ood.extract_features(batch.images, features, batch.border))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def network_outputs(network: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the PDF of a network and, if it has a layer "features", the output of that layer, by name."""
    features = {layer.name: layer.output for layer in network.layers if layer.name == FEATURES}
    return {PDF: network.output, **features}


def network_signature(network: keras.Model) -> NetworkSignature:
    """Return the names and shapes of the inputs and outputs of a network."""
    return NetworkSignature(
        {tensor.name: tuple(tensor.shape[1:]) for tensor in network.inputs},
        {name: tuple(tensor.shape[1:]) for name, tensor in network_outputs(network).items()},
    )


def keras_engine(network: keras.Model) -> KerasEngine:
    """Return the engine that runs a network in Keras."""
    return KerasEngine(network, network_signature(network))


def _read_batches(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_default: float) -> Iterator[Batch]:
    batches = read_batches(cutouts, spec, ebv_default, rows)
    for _, batch in tqdm(batches, desc="predict", unit="batch", total=-(-len(rows) // BATCH_ROWS), leave=False):
        yield batch
