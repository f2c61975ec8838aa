"""model.keras as every peer runs it: one traced tf.function, warmed up with each batch size that will come.

It runs in the venvs of the peers, where this project is not installed.
"""

import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

MAX_BATCH = 32  # requests in a batch of a peer
BATCH_WAIT = 0.005  # seconds that it may wait for them
BATCHES = (*range(1, MAX_BATCH + 1), 64)  # sizes that will come: oneDNN makes a kernel for each
WARM_UPS = 2


class Network:
    """The network of the file that MODEL names."""

    def __init__(self) -> None:
        model = keras.saving.load_model(os.environ["MODEL"], compile=False, safe_mode=True)
        shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
        self._shape = shapes["images"]
        takes_ebv = "ebv" in shapes

        def predict(images: tf.Tensor, ebv: tf.Tensor) -> tf.Tensor:
            return model({"images": images, "ebv": ebv} if takes_ebv else images, training=False)

        signature = [tf.TensorSpec((None, *shape), tf.float32) for shape in (self._shape, (1,))]
        self._predict = tf.function(predict, input_signature=signature)
        for n in BATCHES * WARM_UPS:
            self.pdfs(np.ones((n, *self._shape), np.float32), np.zeros(n, np.float32))

    def pdfs(self, images: np.ndarray, ebv: np.ndarray) -> np.ndarray:
        """Return PDFs, (n, n_bins) float32."""
        return np.asarray(self._predict(tf.constant(images), tf.constant(ebv[:, None])))

    def split(self, body: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Read a body: the pixels of n cutouts, then n reddenings."""
        pixels = int(np.prod(self._shape))
        values = np.frombuffer(body, "<f4")
        n = len(values) // (pixels + 1)
        return values[: n * pixels].reshape(n, *self._shape), values[n * pixels :]

    def answer(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Answer many requests with one inference."""
        parts = [self.split(body) for body in bodies]
        if len(parts) == 1:
            return [self.pdfs(*parts[0]).tobytes()]
        images, ebv = (np.concatenate(column) for column in zip(*parts, strict=True))
        stops = np.cumsum([len(part[1]) for part in parts])[:-1]
        return [rows.tobytes() for rows in np.split(self.pdfs(images, ebv), stops)]
