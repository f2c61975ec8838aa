"""The sky in simulated cutouts: its noise, what of it is left in, and the photon noise of the galaxies."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform

from photoz.grid import BoolArray, FloatArray
from photoz.images import ImageSpec
from training.camera import SKY_SCATTER, Runs
from training.galaxies import USUAL, Variety
from training.imaging_surveys import Observation, Survey, sdss

# Fraction of the cutouts that are resampled, as `photoz sky` does; the others are parts of frames.
RESAMPLED = 0.5

# Pixels on which the interpolation of one depends.
SPLINE_REACH = 6


@dataclass(frozen=True)
class Sky:
    """The sky in n cutouts."""

    sky_sigma: FloatArray  # (n, n_bands) its noise, nanomaggies per pixel, before the cutout is resampled
    sky_left_in: FloatArray  # (n, n_bands) nanomaggies per pixel
    electrons: FloatArray  # (n, n_bands) photo-electrons per nanomaggy; infinite without photon noise
    is_resampled: BoolArray  # (n,)


def draw_sky(
    n: int, spec: ImageSpec, rng: np.random.Generator, variety: Variety = USUAL, survey: Survey | None = None
) -> Sky:
    """Draw the sky of n cutouts of a survey, by default SDSS; the bands of each share a run."""
    observations = [(survey or sdss()).observations[band] for band in spec.bands]
    runs = Runs.draw(n, rng)
    noise = [_draw_noise(runs, observation, spec.pixel_scale, rng) for observation in observations]
    sky_sigma, electrons = (np.stack(part, axis=1) for part in zip(*noise, strict=True))
    common, own = variety.sky_left_in
    left_in = common * rng.standard_normal((n, 1)) + own * rng.standard_normal(sky_sigma.shape)
    return Sky(sky_sigma, sky_sigma * left_in, electrons, rng.uniform(size=n) < RESAMPLED)


def _draw_noise(
    runs: Runs, observation: Observation, pixel_scale: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw the noise of one band and its photo-electrons per nanomaggy, (n,) each."""
    if observation.camera is not None:
        return runs.draw_noise(observation.camera, pixel_scale, rng)
    fainter = runs.draw_sky(SKY_SCATTER, rng)
    return observation.sky_sigma * 10.0 ** (-0.2 * fainter), np.full(len(fainter), observation.electrons)


def add_sky(stamps: FloatArray, sky: Sky, rng: np.random.Generator) -> FloatArray:
    """Add the sky and photon noise to noise-free stamps (n, size, size, n_bands) in nanomaggies; float32.

    The noise is Gaussian: with tens of electrons per pixel from the sky, it hardly differs from Poisson noise.
    """
    variance = sky.sky_sigma[:, None, None] ** 2 + np.maximum(stamps, 0.0) / sky.electrons[:, None, None]
    noise = rng.standard_normal(stamps.shape, dtype=np.float32)
    for row in np.flatnonzero(sky.is_resampled):
        noise[row] = resampled_noise(noise.shape[1], noise.shape[3], rng)
    return np.asarray(stamps + sky.sky_left_in[:, None, None] + np.sqrt(variance) * noise, dtype=np.float32)


def resampled_noise(size: int, n_bands: int, rng: np.random.Generator) -> FloatArray:
    """Noise of standard deviation 1 on turned and shifted grids, resampled as `photoz sky` does, (size, size, n_bands).

    Its standard deviation is 0.87, and pixels side by side are correlated by 0.16.
    """
    angle, side = rng.uniform(0.0, 2.0 * np.pi), math.ceil(size * math.sqrt(2.0)) + 2 * SPLINE_REACH
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    noise = np.empty((size, size, n_bands), dtype=np.float32)
    for band in range(n_bands):
        shift = (side - 1) / 2.0 + rng.uniform(-0.5, 0.5, 2) - turn @ np.full(2, (size - 1) / 2.0)
        pixels = rng.standard_normal((side, side), dtype=np.float32)
        affine_transform(pixels, turn, shift, output=noise[..., band], order=3)
    return noise
