"""PDFs of many cutouts from a Keras network, streamed from disk."""

from collections.abc import Iterator

import keras
import numpy as np
from tqdm import tqdm

from photoz import ood
from photoz.grid import FloatArray, IntArray
from photoz.images import ImageSpec, as_ebv_batch, as_image_batch
from photoz.io.cutouts import Cutouts

BATCH_SIZE = 128


def predict_pdfs(
    model: keras.Model, cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float
) -> FloatArray:
    """Predict the PDFs of some cutouts.

    Parameters
    ----------
    model : keras.Model
        Takes `images` and perhaps `ebv`.
    cutouts : Cutouts
        Open.
    rows : (n,) int
        Which of them.
    spec : ImageSpec
        What the images are.
    ebv_assumed : float
        What stands in for an unknown E(B-V).

    Returns
    -------
    (n, n_bins) float64
        Probability mass per bin, rows sum to 1.
    """
    batches = _batches(cutouts, rows, spec, ebv_assumed)
    pdfs = [model.predict_on_batch({tensor.name: inputs[tensor.name] for tensor in model.inputs}) for inputs in batches]
    stacked = np.concatenate(pdfs).astype(np.float64)
    return np.asarray(stacked / stacked.sum(axis=1, keepdims=True))


def predict_views(
    model: keras.Model, cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float
) -> dict[str, FloatArray]:
    """Look at some cutouts as `photoz.ood.extract_features` does, with the features of the network where it has any.

    Parameters
    ----------
    model, cutouts, rows, spec, ebv_assumed
        As for `predict_pdfs`.

    Returns
    -------
    dict of str to (n, p) float64
        The parts by name.
    """
    layer = features(model)
    network = None if layer is None else keras.Model(model.inputs, layer)
    seen = []
    for inputs in _batches(cutouts, rows, spec, ebv_assumed):
        found = network and network.predict_on_batch({tensor.name: inputs[tensor.name] for tensor in model.inputs})
        seen.append(ood.extract_features(inputs["images"], found))
    return {name: np.concatenate([part[name] for part in seen]) for name in seen[0]}


def features(model: keras.Model) -> keras.KerasTensor | None:
    """Return the output of the layer "features" of a network; None where it has none."""
    return next((layer.output for layer in model.layers if layer.name == ood.FEATURES), None)


def _batches(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float) -> Iterator[dict[str, np.ndarray]]:
    for start in tqdm(range(0, len(rows), BATCH_SIZE), desc="predict", unit="batch", leave=False):
        yield network_inputs(cutouts, rows[start : start + BATCH_SIZE], spec, ebv_assumed)


def network_inputs(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float) -> dict[str, np.ndarray]:
    """Read the inputs of a network: images (n, size, size, n_bands) and ebv (n, 1), both float32."""
    ebv = cutouts.columns.get("ebv")
    checked = as_ebv_batch(None if ebv is None else ebv[rows], len(rows), ebv_assumed)
    return {"images": as_image_batch(cutouts.read_images(rows), spec).images, "ebv": checked.ebv[:, np.newaxis]}
