"""The network of Pasquet et al. 2019 (A&A 621, A26), as in the code that they published with the paper.

Source: `network.py` in https://github.com/jpasquet/Photoz. Unlike `inception`, E(B-V) joins the features after Flatten,
there is a second dense layer and no dropout, and a PReLU has one slope per channel. Biases start at 0.1.
"""

import keras
from keras import layers

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from training.architectures.inception import DENSE_UNITS, convolutions

BIAS = 0.1


def build_pasquet(spec: ImageSpec, grid: RedshiftGrid) -> keras.Model:
    """Build the network: `images` and `ebv` -> softmax; 27,596,372 parameters for 64x64x5 pixels and 180 bins."""
    images = keras.Input(spec.shape, name="images")
    ebv = keras.Input((1,), name="ebv")
    x = layers.Concatenate()([layers.Flatten()(convolutions(images, _convolution)), ebv])
    x = layers.Dense(DENSE_UNITS, activation="relu", bias_initializer=_bias())(x)
    x = layers.Dense(DENSE_UNITS, activation="relu", bias_initializer=_bias(), name="features")(x)
    pdfs = layers.Dense(grid.n_bins, activation="softmax", dtype="float32", bias_initializer=_bias(), name="pdf")(x)
    return keras.Model({"images": images, "ebv": ebv}, pdfs, name="pasquet")


def _convolution(x: keras.KerasTensor, filters: int, kernel: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, padding="same", bias_initializer=_bias())(x)
    return layers.PReLU(shared_axes=(1, 2))(x)


def _bias() -> keras.initializers.Initializer:
    return keras.initializers.Constant(BIAS)
