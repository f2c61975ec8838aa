"""Batches of cutouts streamed from disk: no more than a few are in memory at a time."""

import keras
import numpy as np

from photoz.grid import IntArray
from photoz.images import ImageSpec, as_ebv_batch, as_image_batch
from photoz.io.cutouts import Cutouts
from training.objectives import Objective


class Batches(keras.utils.PyDataset):
    """Batches in a new random order each epoch, or in the order of the rows.

    Parameters
    ----------
    cutouts : Cutouts
        Open; images are read as they are needed.
    rows : (n,) int
        Which of them.
    spec : ImageSpec
        What the images are.
    objective : Objective
        How redshifts become targets.
    batch_size : int
        Images a batch; the last one may be smaller.
    with_ebv : bool
        Whether the network takes E(B-V).
    ebv_assumed : float
        What stands in for an unknown E(B-V).
    seed : int, optional
        Shuffle, turn and flip at random from this seed; without, neither.
    first_epoch : int
        Number of the first epoch, so that a resumed run goes on with the batches it would have had.
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
        self.cutouts, self.rows, self.spec, self.objective = cutouts, rows, spec, objective
        self.batch_size, self.with_ebv, self.ebv_assumed = batch_size, with_ebv, ebv_assumed
        self.seed, self.epoch = seed, first_epoch
        self._targets = objective.encode(cutouts.column("z_spec")[rows].astype(np.float64))
        self._ebv = cutouts.columns.get("ebv")
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def on_epoch_end(self) -> None:
        """Make the next epoch's order."""
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.arange(len(self.rows))
        if self.seed is not None:
            self._order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read one batch: (inputs, targets)."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        rows = self.rows[chosen]
        images = as_image_batch(self.cutouts.read_images(rows), self.spec).images
        if self.seed is not None:
            images = turn_and_flip(images, np.random.default_rng((self.seed, self.epoch, index)))
        return self._inputs(images, rows), self._targets[chosen]

    def _inputs(self, images: np.ndarray, rows: IntArray) -> dict[str, np.ndarray]:
        if not self.with_ebv:
            return {"images": images}
        given = None if self._ebv is None else self._ebv[rows]
        return {"images": images, "ebv": as_ebv_batch(given, len(rows), self.ebv_assumed).ebv[:, np.newaxis]}


def turn_and_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply one of the eight symmetries of the square to each image at random.

    Parameters
    ----------
    images : (n, size, size, n_bands) ndarray
        Images.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (n, size, size, n_bands) ndarray
        A new array.
    """
    turned = np.empty_like(images)
    symmetry = rng.integers(0, 8, len(images))
    for number in range(8):
        which = symmetry == number
        some = np.rot90(images[which], number % 4, axes=(1, 2))
        turned[which] = some[:, :, ::-1] if number >= 4 else some
    return turned
