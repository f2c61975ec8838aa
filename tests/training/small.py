"""The small sample of these tests, and a network of a few hundred weights."""

import keras
from keras import layers

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from training.recipes import settings_for

N = 80
SPEC, GRID = ImageSpec(size=16, bands="griz"), RedshiftGrid(0.5, 40)
SETTINGS = settings_for(epochs=2, batch_size=32)
TRAIN = ("--epochs", 2, "--batch-size", 32, "--z-max", 0.5, "--n-bins", 40, "--only-f32", "--no-figures")


def linear_network(_, spec, grid, __):
    """Build a network, in place of `training.architectures.build`."""
    images, ebv = keras.Input(spec.shape, name="images"), keras.Input((1,), name="ebv")
    means = layers.Concatenate()([layers.GlobalAveragePooling2D()(images), ebv])
    features = layers.Dense(4, name="features")(means)
    pdfs = layers.Dense(grid.n_bins, activation="softmax")(features)
    return keras.Model({"images": images, "ebv": ebv}, pdfs, name="linear")
