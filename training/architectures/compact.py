"""A small network that comes close to the photon limit by summing fluxes before any nonlinearity.

It rests on three ideas (`docs/decisions.md` has the gain from each):

* **Linear fluxes.** The trunk predicts a few weight maps. The raw pixels, in blocks of 2x2, are summed under each of
  them and under fixed Gaussian apertures: a flux is a sum, and averaging asinh pixels would lose it.
* **Dereddened asinh magnitudes and colours** of those sums, with constants from the training images.
* **A mixture head**: a few Gaussians, integrated over the redshift bins. Its output is still one probability per bin.
"""

import keras
import numpy as np
from keras import layers, ops

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from training.architectures.mixture import mixture_head
from training.photometry import gaussian_aperture
from training.pixel_statistics import PixelStatistics

WIDTHS = (16, 32, 48)  # channels at half, a quarter and an eighth of the resolution
N_MAPS = 5  # learned weight maps
APERTURES = (0.05, 0.08, 0.125)  # sigma of the fixed ones in units of the side
CONTEXT_UNITS = 16  # features of the shape, in addition to the fluxes
HIDDEN = (128, 128)
DROPOUT = 0.1

# Maps start in the exponential part of the sigmoid, where they follow the light instead of being uniform.
_FAINT = keras.initializers.Constant(-2.0)


def build_compact(spec: ImageSpec, grid: RedshiftGrid, statistics: PixelStatistics) -> keras.Model:
    """Build it: `images` and `ebv` -> PDF; 0.2 M parameters and 0.05 GFLOP for 64x64 pixels and five bands."""
    images = keras.Input(spec.shape, name="images")
    ebv = keras.Input((1,), name="ebv")
    pixels = _sum_blocks(images)
    fine, coarse = _trunk(_scale(pixels, statistics))
    fluxes = ops.concatenate([_sums(pixels, _fixed_weights(pixels)), _sums(pixels, _learned_weights(fine, coarse))], 1)
    shape = layers.Dense(CONTEXT_UNITS, activation="gelu")(layers.GlobalAveragePooling2D()(coarse))
    features = [*_magnitudes_and_colours(fluxes, ebv, spec, statistics), shape, ebv]
    x = layers.Concatenate(name="features")(features)
    for units in HIDDEN:
        x = layers.Dropout(DROPOUT)(layers.Dense(units, activation="gelu")(x))
    return keras.Model({"images": images, "ebv": ebv}, mixture_head(x, grid), name="compact")


def _sum_blocks(images: keras.KerasTensor) -> keras.KerasTensor:
    """Sum blocks of 2x2 pixels: it loses little, since the PSF is wider than three, and saves three quarters."""
    return ops.multiply(layers.AveragePooling2D(2, padding="same")(images), 4.0)


def _scale(pixels: keras.KerasTensor, statistics: PixelStatistics) -> keras.KerasTensor:
    """Compress the range of the pixels: linear within the noise, logarithmic above it."""
    noise = 2.0 * statistics.noise  # of a sum of four
    return ops.arcsinh(ops.divide(pixels, noise.astype(np.float32)))


def _trunk(x: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return features at the resolution of `x` and at a quarter of it."""
    fine = x = _convolution(x, WIDTHS[0], 3)
    for width in WIDTHS[1:]:
        x = layers.AveragePooling2D(2, padding="same")(x)
        x = _convolution(x, width, 3)
        x = layers.Add()([x, _convolution(x, width, 3)])
    return fine, x


def _convolution(x: keras.KerasTensor, filters: int, kernel: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)
    return layers.Activation("relu")(layers.BatchNormalization(momentum=0.98)(x))


def _fixed_weights(pixels: keras.KerasTensor) -> np.ndarray:
    """Round Gaussians, (1, n_apertures, n_pixels), of unit norm: the noise of such a sum is that of one pixel."""
    size = pixels.shape[1]
    weights = np.stack([gaussian_aperture(size, sigma * size).ravel() for sigma in APERTURES])
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True))[np.newaxis].astype(np.float32)


def _learned_weights(fine: keras.KerasTensor, coarse: keras.KerasTensor) -> keras.KerasTensor:
    """Weight maps predicted by the trunk, (n, N_MAPS, n_pixels), of unit norm."""
    size = fine.shape[1]
    context = layers.Conv2D(WIDTHS[0], 1)(coarse)
    context = layers.UpSampling2D(4, interpolation="bilinear")(context)[:, :size, :size]
    hidden = layers.Activation("relu")(layers.Add()([layers.Conv2D(WIDTHS[0], 1)(fine), context]))
    maps = layers.Conv2D(N_MAPS, 1, activation="sigmoid", bias_initializer=_FAINT)(hidden)
    maps = ops.transpose(layers.Reshape((size * size, N_MAPS))(maps), (0, 2, 1))
    return ops.divide(maps, ops.sqrt(ops.add(ops.sum(ops.square(maps), axis=-1, keepdims=True), 1e-6)))


def _sums(pixels: keras.KerasTensor, weights: keras.KerasTensor | np.ndarray) -> keras.KerasTensor:
    """Sum the pixels of each band under each weight; (n, n_weights, n_bands)."""
    size = pixels.shape[1]
    return ops.matmul(weights, layers.Reshape((size * size, pixels.shape[-1]))(pixels))


def _magnitudes_and_colours(
    sums: keras.KerasTensor, ebv: keras.KerasTensor, spec: ImageSpec, statistics: PixelStatistics
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Turn sums (n, m, n_bands) into dereddened, standardised magnitudes and colours, each flat."""
    exponent = (0.4 * np.log(10.0) * spec.extinction).astype(np.float32)
    dust = ops.exp(ops.multiply(ops.expand_dims(ebv, 1), exponent))
    # Under weights of unit norm a sum has the noise of a block of four pixels, twice that of one; see asinh_magnitudes.
    softening = (4.0 * statistics.noise).astype(np.float32)
    scale = np.float32(-2.5 / np.log(10.0))
    magnitudes = ops.multiply(ops.arcsinh(ops.divide(ops.multiply(sums, dust), softening)), scale)
    colours = ops.subtract(magnitudes[:, :, :-1], magnitudes[:, :, 1:])
    return (
        layers.Flatten()(_standardise(magnitudes, statistics.magnitude_mean, statistics.magnitude_std)),
        layers.Flatten()(_standardise(colours, statistics.colour_mean, statistics.colour_std)),
    )


def _standardise(x: keras.KerasTensor, mean: np.ndarray, std: np.ndarray) -> keras.KerasTensor:
    return ops.divide(ops.subtract(x, mean.astype(np.float32)), std.astype(np.float32))
