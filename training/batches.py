"""Batches of cutouts, read from disk as they are needed."""

import keras
import numpy as np

from photoz.grid import IntArray
from photoz.images import ImageSpec, as_ebv_batch, as_image_batch
from photoz.inference.batch import Batch
from photoz.io.cutouts import Cutouts
from training.objectives import Objective


def read_batch(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_assumed: float) -> Batch:
    """Read and check the cutouts of rows (n,); `ebv_assumed` replaces an unknown E(B-V)."""
    ebv = cutouts.columns.get("ebv")
    reddening = as_ebv_batch(None if ebv is None else ebv[rows], len(rows), ebv_assumed)
    return Batch(as_image_batch(cutouts.read_images(rows), spec), reddening)


class Batches(keras.utils.PyDataset):
    """Batches of rows (n,) of cutouts as (inputs by name, targets).

    With a seed, each epoch has a random order and random turns and flips, which depend on the number of the epoch: a
    resumed run starts at `first_epoch` and continues with the same batches.
    """

    def __init__(
        self,
        cutouts: Cutouts,
        rows: IntArray,
        spec: ImageSpec,
        objective: Objective,
        *,
        batch_size: int,
        with_ebv: bool,
        ebv_assumed: float,
        seed: int | None = None,
        first_epoch: int = 0,
    ) -> None:
        # Keras's own queue waits five seconds at the end of each epoch; without workers, tf.data prefetches instead.
        super().__init__(workers=0)
        self.cutouts, self.rows, self.spec = cutouts, rows, spec
        self.batch_size, self.with_ebv, self.ebv_assumed = batch_size, with_ebv, ebv_assumed
        self.seed, self.epoch = seed, first_epoch
        self._targets = objective.encode(cutouts.column("z_spec")[rows].astype(np.float64))
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.arange(len(self.rows))
        if self.seed is not None:
            self._order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read one batch: (inputs by name, targets)."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = read_batch(self.cutouts, self.rows[chosen], self.spec, self.ebv_assumed)
        images = batch.images.images
        if self.seed is not None:
            images = turn_and_flip(images, np.random.default_rng((self.seed, self.epoch, index)))
        ebv = {"ebv": batch.ebv.ebv[:, np.newaxis]} if self.with_ebv else {}
        return {"images": images, **ebv}, self._targets[chosen]


def turn_and_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply a random one of the eight symmetries of the square to each of (n, size, size, n_bands) images."""
    turned = np.empty_like(images)
    symmetry = rng.integers(0, 8, len(images))
    for number in range(8):
        which = symmetry == number
        some = np.rot90(images[which], number % 4, axes=(1, 2))
        turned[which] = some[:, :, ::-1] if number >= 4 else some
    return turned
