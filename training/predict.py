"""PDFs of many cutouts from a Keras network, streamed from disk."""

import keras
import numpy as np
from tqdm import tqdm

from photoz.datasets import Cutouts
from photoz.grid import FloatArray, IntArray
from photoz.images import ImageSpec, as_ebv_batch, as_image_batch

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
    pdfs = []
    for start in tqdm(range(0, len(rows), BATCH_SIZE), desc="predict", unit="batch", leave=False):
        inputs = network_inputs(cutouts, rows[start : start + BATCH_SIZE], spec, ebv_assumed)
        pdfs.append(model.predict_on_batch({tensor.name: inputs[tensor.name] for tensor in model.inputs}))
    stacked = np.concatenate(pdfs).astype(np.float64)
    return np.asarray(stacked / stacked.sum(axis=1, keepdims=True))


def network_inputs(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float) -> dict[str, np.ndarray]:
    """Read the inputs of a network: images (n, size, size, n_bands) and ebv (n, 1), both float32."""
    ebv = cutouts.columns.get("ebv")
    checked = as_ebv_batch(None if ebv is None else ebv[rows], len(rows), ebv_assumed)
    return {"images": as_image_batch(cutouts.read_images(rows), spec).images, "ebv": checked.ebv[:, np.newaxis]}
