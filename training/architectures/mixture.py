"""A mixture density head: a few Gaussians, integrated over the redshift bins."""

import keras
import numpy as np
from keras import layers, ops

from photoz.grid import RedshiftGrid

N_COMPONENTS = 6

# Added to the mass of every bin, so that the logarithm in the loss is finite.
FLOOR = 1e-6


def mixture_head(x: keras.KerasTensor, grid: RedshiftGrid) -> keras.KerasTensor:
    """Convert features (n, m) to PDFs (n, n_bins): the mixture, cut at the ends of the grid and normalised."""
    # Small weights: all galaxies start with the same broad PDF. Created here, so that it depends on the run's seed.
    small = keras.initializers.RandomNormal(stddev=0.02)
    spread = np.linspace(-2.0, 2.0, N_COMPONENTS)  # otherwise all components stay equal
    mean = ops.add(layers.Dense(N_COMPONENTS, kernel_initializer=small)(x), spread.astype(np.float32))
    mean = ops.multiply(ops.sigmoid(mean), np.float32(grid.z_max))
    # Widths are at least 0.01 z_max.
    width = layers.Dense(N_COMPONENTS, activation="softplus", kernel_initializer=small)(x)
    width = ops.multiply(ops.add(ops.multiply(width, 0.1), 0.01), np.float32(grid.z_max))
    weight = ops.softmax(layers.Dense(N_COMPONENTS, kernel_initializer=small)(x))
    return _integrate(mean, width, weight, grid)


def _integrate(
    mean: keras.KerasTensor, width: keras.KerasTensor, weight: keras.KerasTensor, grid: RedshiftGrid
) -> keras.KerasTensor:
    edges = grid.edges.astype(np.float32)[np.newaxis, np.newaxis]
    normal = ops.divide(ops.subtract(edges, ops.expand_dims(mean, -1)), ops.expand_dims(width, -1))
    below = ops.multiply(ops.add(ops.erf(ops.multiply(normal, np.float32(np.sqrt(0.5)))), 1.0), 0.5)
    below = ops.sum(ops.multiply(below, ops.expand_dims(weight, -1)), axis=1)
    mass = ops.add(ops.subtract(below[:, 1:], below[:, :-1]), np.float32(FLOOR))
    return ops.divide(mass, ops.sum(mass, axis=-1, keepdims=True))
