"""Statistics of the training images, with which a network scales its inputs."""

from dataclasses import dataclass

import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import ImageSpec
from photoz.inference.reading import read_batch
from photoz.io.cutouts import Cutouts
from training.photometry import asinh_magnitudes, deredden, gaussian_aperture, measure

# Enough to scale inputs to a mean of about 0 and a standard deviation of about 1.
N_GALAXIES = 1000

# Width of the reference aperture in units of the image's side.
REFERENCE_SIGMA = 0.125


@dataclass(frozen=True)
class PixelStatistics:
    """Scales of pixels, magnitudes and colours, and the median reddening."""

    noise: FloatArray  # (n_bands,) of the sky: 1.4826 times the median absolute deviation of the border pixels
    magnitude_mean: FloatArray  # (n_bands,), asinh magnitudes in the reference aperture, whose weights have unit norm
    magnitude_std: FloatArray
    colour_mean: FloatArray  # (n_bands - 1,), differences between adjacent bands
    colour_std: FloatArray
    ebv: float = 0.0  # median E(B-V) of the galaxies, 0 if none is known


def pixel_statistics(cutouts: Cutouts, rows: IntArray, spec: ImageSpec) -> PixelStatistics:
    """Measure at most 1,000 galaxies spread evenly over the training rows (m,)."""
    median = median_ebv(cutouts, rows)
    rows = rows[:: max(1, len(rows) // N_GALAXIES)]
    batch = read_batch(cutouts, rows, spec, median)
    sample, ebv = batch.images.astype(np.float64), batch.ebv.astype(np.float64)
    noise = sky_noise(sample)
    weight = gaussian_aperture(spec.size, REFERENCE_SIGMA * spec.size)
    fluxes = measure(sample, weight / np.linalg.norm(weight))
    magnitudes = asinh_magnitudes(deredden(fluxes, ebv, spec), noise)
    colours = magnitudes[:, :-1] - magnitudes[:, 1:]
    spreads = (magnitudes.mean(0), magnitudes.std(0) + 1e-3, colours.mean(0), colours.std(0) + 1e-3)
    return PixelStatistics(noise, *spreads, median)


def median_ebv(cutouts: Cutouts, rows: IntArray) -> float:
    """Median of the known E(B-V) of rows (m,); 0 if none is known."""
    ebv = np.asarray(cutouts.columns.get("ebv", np.full(len(cutouts), np.nan)), dtype=np.float64)[rows]
    return float(np.median(ebv[np.isfinite(ebv)])) if np.isfinite(ebv).any() else 0.0


def sky_noise(images: FloatArray) -> FloatArray:
    """Noise of the sky in each band, (n_bands,), from the border pixels of all images together."""
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    border = border.reshape(-1, images.shape[-1])
    noise = 1.4826 * np.median(np.abs(border - np.median(border, axis=0)), axis=0)
    return np.where(noise > 0, noise, 1.0)
