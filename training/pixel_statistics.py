"""Statistics of the training images, the constants of a network's input scaling."""

from dataclasses import dataclass

import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import ImageSpec
from photoz.inference.reading import read_batch
from photoz.io.cutouts import Cutouts
from training.photometry import asinh_magnitudes, deredden, gaussian_aperture, measure

# Enough to scale inputs to about zero and one.
N_GALAXIES = 1000

# Width of the reference aperture in units of the image's side.
REFERENCE_SIGMA = 0.125


@dataclass(frozen=True)
class PixelStatistics:
    """Scales of pixels, magnitudes and colours, and the usual reddening.

    Parameters
    ----------
    noise : (n_bands,) float64
        1.4826 times the median absolute deviation of the border pixels: the noise of the sky.
    magnitude_mean, magnitude_std : (n_bands,) float64
        Of the asinh magnitudes in the reference aperture, whose weights have unit norm.
    colour_mean, colour_std : (n_bands - 1,) float64
        Of the differences between neighbouring bands.
    ebv : float
        Median E(B-V) of the galaxies, 0 if none is known.
    """

    noise: FloatArray
    magnitude_mean: FloatArray
    magnitude_std: FloatArray
    colour_mean: FloatArray
    colour_std: FloatArray
    ebv: float = 0.0


def pixel_statistics(cutouts: Cutouts, rows: IntArray, spec: ImageSpec) -> PixelStatistics:
    """Measure at most 1,000 galaxies spread evenly over the training rows (m,)."""
    usual = median_ebv(cutouts, rows)
    rows = rows[:: max(1, len(rows) // N_GALAXIES)]
    batch = read_batch(cutouts, rows, spec, usual)
    sample, ebv = batch.images.images.astype(np.float64), batch.ebv.ebv.astype(np.float64)
    noise = sky_noise(sample)
    weight = gaussian_aperture(spec.size, REFERENCE_SIGMA * spec.size)
    fluxes = measure(sample, weight / np.linalg.norm(weight))
    magnitudes = asinh_magnitudes(deredden(fluxes, ebv, spec), noise)
    colours = magnitudes[:, :-1] - magnitudes[:, 1:]
    spreads = (magnitudes.mean(0), magnitudes.std(0) + 1e-3, colours.mean(0), colours.std(0) + 1e-3)
    return PixelStatistics(noise, *spreads, usual)


def median_ebv(cutouts: Cutouts, rows: IntArray) -> float:
    """Median of the known E(B-V) of rows (m,); 0 if none is known."""
    ebv = np.asarray(cutouts.columns.get("ebv", np.full(len(cutouts), np.nan)), dtype=np.float64)[rows]
    return float(np.median(ebv[np.isfinite(ebv)])) if np.isfinite(ebv).any() else 0.0


def sky_noise(images: FloatArray) -> FloatArray:
    """Noise of the sky per band, from the border pixels of all images together; shape (n_bands,)."""
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    border = border.reshape(-1, images.shape[-1])
    noise = 1.4826 * np.median(np.abs(border - np.median(border, axis=0)), axis=0)
    return np.where(noise > 0, noise, 1.0)
