"""The PSF at a place in a frame: from SDSS's `psField`, or of the stars in the frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from training.detect import background_noise, find_sources

# Half the side in pixels of images of the PSF.
REACH = 15

# The polynomials of psField have coordinates in units of a thousand pixels.
UNIT = 1e-3

# Stars: bright sources that are not blended and whose radius is about that of the narrowest quarter of them.
DETECTION, SIGNAL, NARROWEST, SAME_WIDTH, MIN_STARS = 10.0, 100.0, 25, 0.1, 5


@dataclass(frozen=True)
class Psf:
    """A sum of images of which each is multiplied by a polynomial of the place in the frame."""

    images: FloatArray  # (k, ny, nx), with the pixels' own width
    coefficients: FloatArray  # (k, n, m), of powers of y and of x

    @classmethod
    def of_psfield(cls, table: Any) -> "Psf":
        """Return the PSF of a band by one of the first five tables of a psField file.

        It is a Karhunen-Loeve expansion (Lupton et al. 2001): https://www.sdss4.org/dr17/algorithms/read_psf/.
        """
        shape = int(table["RNROW"][0]), int(table["RNCOL"][0])
        n, m = int(table["nrow_b"][0]), int(table["ncol_b"][0])
        images = np.stack([np.asarray(row, np.float64).reshape(shape) for row in table["RROWS"]])
        y, x = (slice(length // 2 - REACH, length // 2 + REACH + 1) for length in shape)
        return cls(images[:, y, x], np.asarray(table["c"], np.float64)[:, :n, :m])

    def at(self, x: float, y: float) -> FloatArray:
        """Return the image (ny, nx), whose sum is 1, at a place in pixels from 0."""
        weights = np.polynomial.polynomial.polyval2d(UNIT * y, UNIT * x, np.moveaxis(self.coefficients, 0, -1))
        image = np.tensordot(weights, self.images, axes=1)
        return np.asarray(image / image.sum())


def psf_of_stars(pixels: FloatArray) -> Psf:
    """Return the median of the stars in a frame without sky; raises `InvalidDataset` if it has too few."""
    sources, _ = find_sources(pixels, DETECTION)
    signal = sources["flux"] / (background_noise(pixels) * np.sqrt(sources["npix"]))
    bright = sources[(signal > SIGNAL) & (sources["flag"] == 0) & (sources["radius"] > 0)]
    width = np.percentile(bright["radius"], NARROWEST) if len(bright) else 1.0
    stars = bright[np.abs(bright["radius"] / width - 1.0) < SAME_WIDTH]
    stamps = [stamp for star in stars if (stamp := _stamp(pixels, star["x"], star["y"])) is not None]
    if len(stamps) < MIN_STARS:
        raise InvalidDataset(f"found {len(stamps)} stars for the PSF, expected {MIN_STARS} or more")
    return Psf(np.median(stamps, axis=0)[np.newaxis], np.ones((1, 1, 1)))


def _stamp(image: FloatArray, x: float, y: float) -> FloatArray | None:
    """Return an image of a star, centred on a pixel and normalised to the sum 1; None near an edge of the frame."""
    column, row = round(x), round(y)
    box = image[max(row - REACH - 1, 0) : row + REACH + 2, max(column - REACH - 1, 0) : column + REACH + 2]
    if box.shape != (2 * REACH + 3,) * 2:
        return None
    centred = ndimage.shift(box.astype(np.float64), (row - y, column - x), order=3)[1:-1, 1:-1]
    edge = np.concatenate([centred[[0, -1]].ravel(), centred[:, [0, -1]].ravel()])
    centred -= np.median(edge)  # the light of other stars
    return np.asarray(centred / centred.sum())
