"""The network of Pasquet et al. 2019, simplified: one dense layer, dropout and no E(B-V).

The pools in a block have stride 1, so that its branches have the same size.
"""

from collections.abc import Callable

import keras
from keras import layers

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec

Convolution = Callable[[keras.KerasTensor, int, int], keras.KerasTensor]

STEM_FILTERS, STEM_KERNEL = 64, 5
DENSE_UNITS, DROPOUT = 1096, 0.3

# Filters (a, b) of a block: a in 1x1 convolutions before a pool or a larger kernel, b in all others.
BLOCK_FILTERS = ((48, 64), (64, 92), (92, 128), (92, 128), (92, 128))


def build_inception(spec: ImageSpec, grid: RedshiftGrid) -> keras.Model:
    """Build the network: `images` -> softmax over the bins; 27,841,856 parameters for 64x64x5 pixels, 180 bins."""
    images = keras.Input(spec.shape, name="images")
    x = layers.Flatten()(convolutions(images, _convolution))
    x = layers.Dense(DENSE_UNITS, activation="relu", name="features")(x)
    x = layers.Dropout(DROPOUT)(x)
    pdfs = layers.Dense(grid.n_bins, activation="softmax", dtype="float32", name="pdf")(x)
    return keras.Model({"images": images}, pdfs, name="inception")


def convolutions(images: keras.KerasTensor, convolution: Convolution) -> keras.KerasTensor:
    """Apply the stem and the five blocks to (n, size, size, n_bands) images; (n, size / 8, size / 8, 348).

    `convolution` takes (x, filters, kernel), convolves and activates.
    """
    x = convolution(images, STEM_FILTERS, STEM_KERNEL)
    x = layers.AveragePooling2D(2)(x)
    for number, (a, b) in enumerate(BLOCK_FILTERS, start=1):
        x = _block(x, a, b, convolution, with_d=number < 5)
        if number in (2, 4):
            x = layers.AveragePooling2D(2)(x)
    return x


def _block(x: keras.KerasTensor, a: int, b: int, convolution: Convolution, *, with_d: bool) -> keras.KerasTensor:
    branches = [
        convolution(x, b, 1),
        layers.AveragePooling2D(2, strides=1, padding="same")(convolution(x, a, 1)),
        convolution(convolution(x, a, 1), b, 3),
    ]
    if with_d:
        branches.append(convolution(convolution(x, a, 1), b, 5))
    return layers.Concatenate()(branches)


def _convolution(x: keras.KerasTensor, filters: int, kernel: int) -> keras.KerasTensor:
    return layers.PReLU()(layers.Conv2D(filters, kernel, padding="same")(x))
