"""Training objectives: the target for a redshift, and the loss."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from photoz.grid import FloatArray, RedshiftGrid

OBJECTIVES = ("crps", "one-hot")

CRPS_WEIGHT = 100.0
ENTROPY_WEIGHT = 0.3
SOFTENING = 0.01  # width of the soft labels in units of z_max

Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]


@dataclass(frozen=True)
class Objective:
    """A loss with its targets."""

    encode: Callable[[FloatArray], npt.NDArray[np.generic]]  # z_spec (n,) -> targets of the loss
    loss: Loss  # (targets, pdfs (n, n_bins)) -> (n,)


def objective(name: str, grid: RedshiftGrid) -> Objective:
    """Return an objective by its name.

    "crps" is CRPS plus cross-entropy with soft labels, which both use the order of the bins. "one-hot" is the sparse
    categorical cross-entropy, which does not.
    """
    match name:
        case "crps":
            return Objective(lambda z_spec: z_spec.astype(np.float32)[:, np.newaxis], _ordered_loss(grid))
        case "one-hot":
            return Objective(grid.bin_index, keras.losses.sparse_categorical_crossentropy)
    raise ValueError(f"expected one of {', '.join(OBJECTIVES)}, got {name!r}")


def _ordered_loss(grid: RedshiftGrid) -> Loss:
    crps = crps_loss(grid)
    entropy = soft_cross_entropy(grid)

    def ordered(z_spec: keras.KerasTensor, pdfs: keras.KerasTensor) -> keras.KerasTensor:
        return CRPS_WEIGHT * crps(z_spec, pdfs) + ENTROPY_WEIGHT * entropy(z_spec, pdfs)

    return ordered


def crps_loss(grid: RedshiftGrid) -> Loss:
    """CRPS as a differentiable sum over upper bin edges; `photoz.metrics.crps` is the exact integral.

    The loss takes z_spec (n, 1) and pdfs (n, n_bins) and returns (n,) in units of redshift. At bin centres instead of
    upper edges, comparing the CDF with the step would bias z by half a bin.
    """
    upper = grid.edges[1:].astype(np.float32)[np.newaxis]

    def crps(z_spec: keras.KerasTensor, pdfs: keras.KerasTensor) -> keras.KerasTensor:
        step = ops.cast(upper >= z_spec, "float32")
        return grid.width * ops.sum(ops.square(ops.cumsum(pdfs, axis=-1) - step), axis=-1)

    return crps


def soft_cross_entropy(grid: RedshiftGrid) -> Loss:
    """Cross-entropy with Gaussian labels of width 0.01 z_max: z_spec (n, 1), pdfs (n, n_bins) -> (n,) in nats."""
    centres = grid.centres.astype(np.float32)[np.newaxis]
    width = SOFTENING * grid.z_max

    def entropy(z_spec: keras.KerasTensor, pdfs: keras.KerasTensor) -> keras.KerasTensor:
        labels = ops.softmax(-0.5 * ops.square((centres - z_spec) / width), axis=-1)
        return -ops.sum(labels * ops.log(ops.maximum(pdfs, 1e-9)), axis=-1)

    return entropy
