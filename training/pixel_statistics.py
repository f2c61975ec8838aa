"""Constants of the training images that a network's input scaling needs."""

from dataclasses import dataclass

import numpy as np

from photoz.datasets import ImageSource
from photoz.grid import FloatArray, IntArray
from photoz.images import ImageSpec
from training.photometry import asinh_magnitudes, gaussian_aperture, measure

# Enough for constants that are only to bring inputs near zero and one.
N_GALAXIES = 1000

# Width of the reference aperture in units of the image's side.
REFERENCE_SIGMA = 0.125


@dataclass(frozen=True)
class PixelStatistics:
    """Scales of pixels, magnitudes and colours.

    Parameters
    ----------
    noise : (n_bands,) float64
        1.4826 times the median absolute deviation of the border pixels: the noise of the sky.
    magnitude_mean, magnitude_std : (n_bands,) float64
        Of the asinh magnitudes in the reference aperture.
    colour_mean, colour_std : (n_bands - 1,) float64
        Of the differences between neighbouring bands.
    """

    noise: FloatArray
    magnitude_mean: FloatArray
    magnitude_std: FloatArray
    colour_mean: FloatArray
    colour_std: FloatArray


def pixel_statistics(images: ImageSource, ebv: FloatArray, rows: IntArray, spec: ImageSpec) -> PixelStatistics:
    """Measure the scales on some of the training galaxies.

    Parameters
    ----------
    images : (n, size, size, n_bands) image source
        All images.
    ebv : (n,) float
        Their E(B-V).
    rows : (m,) int
        Which of them are trained on, in increasing order.
    spec : ImageSpec
        What they are.

    Returns
    -------
    PixelStatistics
        From at most 1,000 galaxies, spread evenly over `rows`.
    """
    rows = rows[:: max(1, len(rows) // N_GALAXIES)]
    sample = np.nan_to_num(np.asarray(images[rows], dtype=np.float64), posinf=0.0, neginf=0.0)
    noise = sky_noise(sample)
    fluxes = measure(sample, gaussian_aperture(spec.size, REFERENCE_SIGMA * spec.size))
    magnitudes = asinh_magnitudes(fluxes * 10.0 ** (0.4 * spec.extinction * ebv[rows, None]), noise)
    colours = magnitudes[:, :-1] - magnitudes[:, 1:]
    return PixelStatistics(noise, magnitudes.mean(0), magnitudes.std(0) + 1e-3, colours.mean(0), colours.std(0) + 1e-3)


def sky_noise(images: FloatArray) -> FloatArray:
    """Noise of the sky per band, from the border pixels of all images together; shape (n_bands,)."""
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    border = border.reshape(-1, images.shape[-1])
    noise = 1.4826 * np.median(np.abs(border - np.median(border, axis=0)), axis=0)
    return np.where(noise > 0, noise, 1.0)
