"""A small network that comes close to the photon limit by summing fluxes before any nonlinearity.

Four ideas make it work (`docs/decisions.md` gives the gain from each):

* **Linear fluxes.** The trunk predicts a few weight maps. The raw pixels, in blocks of 2x2, are summed under each of
  them and under fixed Gaussian apertures: a flux is a sum, and averaging asinh pixels would lose it.
* **A local background.** One more map weights the pixels around the galaxy: the mean under it is the background that
  remains in real frames. Fluxes under the fixed apertures are given with and without it.
* **Dereddened asinh magnitudes and colours** of those sums, with constants from the training images.
* **A mixture head**: a few Gaussians, integrated over the redshift bins, so that the output is one probability per bin.

Maps and pixels have their bands first, and the maps are normalised after the sums, so that the compiled network moves
as little data as possible (`training.export`).
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
SKY_RADIUS = 0.375  # in units of the side: pixels beyond it may count as sky
CONTEXT_UNITS = 16  # features of the shape, in addition to the fluxes
HIDDEN = (128, 128)
DROPOUT = 0.1

# Maps start in the exponential part of the sigmoid, where they follow the light instead of being uniform.
_FAINT = keras.initializers.Constant(-2.0)


def build_compact(spec: ImageSpec, grid: RedshiftGrid, statistics: PixelStatistics) -> keras.Model:
    """Build the network: `images` and `ebv` -> PDF; 0.09 M parameters, 0.015 GFLOP for 64x64 pixels and five bands.

    An E(B-V) below 0 stands for an unknown one.
    """
    images = keras.Input(spec.shape, name="images")
    ebv = keras.Input((1,), name="ebv")
    known = ops.cast(ops.greater_equal(ebv, 0.0), "float32")
    reddening = ops.add(ops.multiply(known, ebv), ops.multiply(ops.subtract(1.0, known), np.float32(statistics.ebv)))
    pixels = _sum_blocks(images)
    fine, coarse = _trunk(_compress(pixels, statistics))
    fluxes = _fluxes(_bands_first(pixels), _bands_first(_weight_maps(fine, coarse)))
    shape = layers.Dense(CONTEXT_UNITS, activation="gelu")(layers.GlobalAveragePooling2D()(coarse))
    features = [*_magnitudes_and_colours(fluxes, reddening, spec, statistics), shape, reddening]
    x = layers.Concatenate()([layers.Concatenate(name="features")(features), known])
    for units in HIDDEN:
        x = layers.Dropout(DROPOUT)(layers.Dense(units, activation="gelu")(x))
    return keras.Model({"images": images, "ebv": ebv}, mixture_head(x, grid), name="compact")


def _sum_blocks(images: keras.KerasTensor) -> keras.KerasTensor:
    """Sum blocks of 2x2 pixels: a quarter of the data, with little loss, since the PSF is wider than three pixels."""
    return ops.multiply(layers.AveragePooling2D(2, padding="same")(images), 4.0)


def _compress(pixels: keras.KerasTensor, statistics: PixelStatistics) -> keras.KerasTensor:
    """Compress the range of the pixels: linear within the noise, a square root above it."""
    noise = (2.0 * statistics.noise).astype(np.float32)  # of a sum of four
    x = ops.divide(pixels, noise)
    return ops.divide(x, ops.sqrt(ops.add(ops.absolute(x), 1.0)))


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


def _weight_maps(fine: keras.KerasTensor, coarse: keras.KerasTensor) -> keras.KerasTensor:
    """Predict weight maps from the trunk, (n, size, size, N_MAPS + 1); the last one is for the sky."""
    size = fine.shape[1]
    context = layers.Conv2D(WIDTHS[0], 1)(coarse)
    context = layers.UpSampling2D(4, interpolation="nearest")(context)
    if context.shape[1] != size:
        context = context[:, :size, :size]
    hidden = layers.Activation("relu")(layers.Add()([layers.Conv2D(WIDTHS[0], 1)(fine), context]))
    return layers.Conv2D(N_MAPS + 1, 1, activation="sigmoid", bias_initializer=_FAINT)(hidden)


def _bands_first(x: keras.KerasTensor) -> keras.KerasTensor:
    """Turn (n, size, size, m) into (n, m, n_pixels)."""
    _, size, _, m = x.shape
    return layers.Reshape((m, size * size))(ops.transpose(x, (0, 3, 1, 2)))


def _fluxes(pixels: keras.KerasTensor, maps: keras.KerasTensor) -> keras.KerasTensor:
    """Sum pixels (n, n_bands, n_pixels) under fixed apertures and maps (n, N_MAPS + 1, n_pixels).

    Returns (n, n_fluxes, n_bands): under the apertures, the same less the background, and under the maps. All weights
    have unit norm, so that the noise of a sum is that of one pixel.
    """
    size = round(np.sqrt(pixels.shape[-1]))
    apertures = _apertures(size)
    columns = ops.transpose(pixels, (0, 2, 1))
    fixed = ops.matmul(apertures[np.newaxis], columns)
    maps = ops.multiply(maps, _allowed(size))
    sums = ops.matmul(maps, columns)
    sky = ops.divide(sums[:, -1:], ops.add(ops.sum(maps, axis=-1, keepdims=True)[:, -1:], 1e-6))
    norms = ops.sqrt(ops.add(ops.sum(ops.square(maps), axis=-1, keepdims=True), 1e-6))
    areas = apertures.sum(axis=1)[np.newaxis, :, np.newaxis]
    without_sky = ops.subtract(fixed, ops.multiply(sky, areas))
    return ops.concatenate([fixed, without_sky, ops.divide(sums, norms)[:, :-1]], axis=1)


def _allowed(size: int) -> np.ndarray:
    """Pixels that each map may use, (N_MAPS + 1, n_pixels) float32: all or, for the sky, those beyond `SKY_RADIUS`."""
    offset = (np.arange(size) - (size - 1) / 2.0) / size
    surroundings = np.hypot(*np.meshgrid(offset, offset)) > SKY_RADIUS
    return np.stack([np.ones(size * size)] * N_MAPS + [surroundings.ravel()]).astype(np.float32)


def _apertures(size: int) -> np.ndarray:
    """Round Gaussians of unit norm, (n_apertures, n_pixels) float32."""
    weights = np.stack([gaussian_aperture(size, sigma * size).ravel() for sigma in APERTURES])
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), dtype=np.float32)


def _magnitudes_and_colours(
    sums: keras.KerasTensor, ebv: keras.KerasTensor, spec: ImageSpec, statistics: PixelStatistics
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Turn sums (n, m, n_bands) into dereddened, standardised magnitudes and colours, each flat."""
    exponent = (0.4 * np.log(10.0) * spec.extinction).astype(np.float32)
    dust = ops.exp(ops.multiply(ops.expand_dims(ebv, 1), exponent))
    # With weights of unit norm, a sum has the noise of a block of four pixels, twice that of one; see asinh_magnitudes.
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
