"""Defects of real frames that rendered cutouts lack: residual sky, bad pixels, satellite trails, wrong positions.

Each function changes one cutout (size, size, n_bands) in place. The networks are trained with random defects (`spoil`),
scaled by the noise of the sky, so that they suit any survey; `benchmarks.science ood` applies defects of fixed size to
the test galaxies.
"""

from collections.abc import Callable

import numpy as np

from photoz.grid import FloatArray

Image = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]

TRAIL_SIGMA = 1.4  # pixels: a trail is as wide as the PSF


def leave_sky_in(image: Image, level: FloatArray | float, slope: FloatArray | float = 0.0) -> None:
    """Add a background of `level`, (n_bands,) or a number, which rises by `slope`, (2, n_bands), towards two edges."""
    ramp = np.linspace(-1.0, 1.0, len(image))
    along = np.stack(np.meshgrid(ramp, ramp, indexing="ij"), axis=-1)
    image += (level + along @ np.broadcast_to(slope, (2, image.shape[2]))).astype(np.float32)


def add_hits(image: Image, band: int, rows: FloatArray, columns: FloatArray, value: float) -> None:
    """Add a value to pixels of a band, as cosmic rays and hot pixels do; coordinates are rounded to whole pixels."""
    last = len(image) - 1
    pixels = np.unique(np.clip(np.rint([rows, columns]), 0, last).astype(int), axis=1)
    image[pixels[0], pixels[1], band] += value


def kill_column(image: Image, band: int, column: int) -> None:
    """Set a column of a band to 0."""
    image[:, column, band] = 0.0


def draw_trail(image: Image, band: int, angle: float, distance: float, brightness: float) -> None:
    """Draw a straight trail with a brightness per pixel, at a distance from the centre in pixels."""
    offset = np.arange(len(image)) - (len(image) - 1) / 2.0
    across = offset[:, None] * np.cos(angle) + offset * np.sin(angle) - distance
    image[:, :, band] += (brightness * np.exp(-0.5 * (across / TRAIL_SIGMA) ** 2)).astype(np.float32)


def move(image: Image, rows: int, columns: int) -> None:
    """Move the galaxy by whole pixels; pixels that leave at one edge enter at the opposite edge."""
    image[:] = np.roll(image, (rows, columns), axis=(0, 1))


def _random_sky(image: Image, noise: FloatArray, rng: np.random.Generator) -> None:
    n_bands = len(noise)
    size = _log_uniform(rng, 0.03, 1.0) * float(np.median(noise))
    level = size * (rng.standard_normal() + rng.choice([0.0, 1.0]) * rng.standard_normal(n_bands))
    leave_sky_in(image, level, rng.choice([0.0, 0.5]) * size * rng.standard_normal((2, n_bands)))


def _random_hits(image: Image, noise: FloatArray, rng: np.random.Generator) -> None:
    band, size = _random_band(noise, rng), len(image)
    angle, length = rng.uniform(0.0, 2.0 * np.pi), rng.choice([0.0, 0.0, rng.uniform(1.0, size / 6)])
    steps = np.linspace(0.0, length, int(2 * length) + 1)
    row, column = (size - 1) / 2.0 + rng.normal(0.0, size / 8, 2)
    value = _log_uniform(rng, 10.0, 1000.0) * noise[band]
    add_hits(image, band, row + steps * np.sin(angle), column + steps * np.cos(angle), value)


def _random_column(image: Image, noise: FloatArray, rng: np.random.Generator) -> None:
    size = len(image)
    kill_column(image, _random_band(noise, rng), int(np.clip(rng.normal(size / 2, size / 8), 0, size - 1)))


def _random_trail(image: Image, noise: FloatArray, rng: np.random.Generator) -> None:
    band = _random_band(noise, rng)
    brightness = _log_uniform(rng, 2.0, 100.0) * noise[band]
    draw_trail(image, band, rng.uniform(0.0, np.pi), rng.normal(0.0, len(image) / 4), brightness)


def _random_move(image: Image, noise: FloatArray, rng: np.random.Generator) -> None:
    reach = len(image) // 16
    move(image, *(int(step) for step in rng.integers(-reach, reach + 1, 2)))


_RANDOM: tuple[Callable[[Image, FloatArray, np.random.Generator], None], ...] = (
    _random_sky,
    _random_sky,  # twice as frequent
    _random_hits,
    _random_column,
    _random_trail,
    _random_move,
)


def spoil(images: np.ndarray, noise: FloatArray, fraction: float, rng: np.random.Generator) -> None:
    """Give a fraction of cutouts (n, size, size, n_bands) one defect each, at random and in place.

    `noise` is that of the sky in a pixel, (n_bands,).
    """
    for row in np.flatnonzero(rng.uniform(size=len(images)) < fraction):
        _RANDOM[rng.integers(len(_RANDOM))](images[row], noise, rng)


def _random_band(noise: FloatArray, rng: np.random.Generator) -> int:
    return int(rng.integers(len(noise)))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
