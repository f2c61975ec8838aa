"""Batches of training cutouts, read from disk as needed, with random augmentation."""

from dataclasses import dataclass

import keras
import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import UNKNOWN_EBV, ImageSpec
from photoz.inference.reading import read_batch
from photoz.io.cutouts import Cutouts
from training.defects import spoil


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training cutouts that leave their redshifts the same."""

    seed: int
    noise: FloatArray  # (n_bands,) of the sky in a pixel
    defects: float = 0.0  # fraction of the cutouts that get one of `training.defects`
    unknown_ebv: float = 0.0  # fraction whose E(B-V) is dropped

    def apply(self, images: np.ndarray, ebv: np.ndarray, number: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return changed copies of images (n, size, size, n_bands) and E(B-V) (n,); `number` determines the changes."""
        rng = np.random.default_rng((self.seed, *number))
        images = turn_and_flip(images, rng)
        spoil(images, self.noise, self.defects, rng)
        dropped = rng.uniform(size=len(ebv)) < self.unknown_ebv
        return images, np.where(dropped, np.float32(UNKNOWN_EBV), ebv)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """Batches of rows (n,) of cutouts as (inputs by name, targets), with targets from `targets` (n, ...).

    With `augmentation`, each epoch has a random order and random changes, which depend on the number of the epoch: a
    run that resumes at `first_epoch` continues with the same batches.
    """

    def __init__(
        self,
        cutouts: Cutouts,
        rows: IntArray,
        spec: ImageSpec,
        targets: np.ndarray,
        *,
        batch_size: int,
        with_ebv: bool,
        ebv_default: float,
        augmentation: Augmentation | None = None,
        first_epoch: int = 0,
    ) -> None:
        # Keras's queue waits five seconds at the end of each epoch. Without workers, tf.data prefetches instead.
        super().__init__(workers=0)
        self.cutouts, self.rows, self.spec = cutouts, rows, spec
        self.batch_size, self.with_ebv, self.ebv_default = batch_size, with_ebv, ebv_default
        self.targets, self.augmentation, self.epoch = targets, augmentation, first_epoch
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.arange(len(self.rows))
        if self.augmentation:
            self._order = np.random.default_rng((self.augmentation.seed, self.epoch)).permutation(len(self.rows))

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read one batch: (inputs by name, targets)."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = read_batch(self.cutouts, self.rows[chosen], self.spec, self.ebv_default)
        images, ebv = batch.images, batch.ebv
        if self.augmentation:
            images, ebv = self.augmentation.apply(images, ebv, (self.epoch, index))
        inputs = {"images": images, "ebv": ebv[:, np.newaxis]} if self.with_ebv else {"images": images}
        return inputs, self.targets[chosen]


def turn_and_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply one of the eight symmetries of the square, at random, to each of (n, size, size, n_bands) images."""
    changed = np.empty_like(images)
    symmetry = rng.integers(0, 8, len(images))
    for number in range(8):
        which = symmetry == number
        turned = np.rot90(images[which], number % 4, axes=(1, 2))
        changed[which] = turned[:, :, ::-1] if number >= 4 else turned
    return changed
