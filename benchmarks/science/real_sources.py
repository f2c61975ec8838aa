"""The sources of a field of frames, with their cutouts in all bands."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from astropy.coordinates import SkyCoord

from photoz.grid import BoolArray, FloatArray
from photoz.images import SDSS_IMAGES, ZERO_POINT
from photoz.io.frame import cut
from training.detect import find_sources
from training.frames import DETECTION, Field

FAINTEST = 18.5  # magnitude in r
EXTENDED = 1.15  # half-light radius over that of the PSF, above which a source is extended


@dataclass(frozen=True)
class Sources:
    """n sources of a field whose cutouts are complete."""

    position: Any  # SkyCoord, (n,)
    r: FloatArray  # (n,) magnitudes
    is_extended: BoolArray  # (n,)
    images: FloatArray  # (n, 64, 64, 5) float32, nanomaggies
    electrons: FloatArray  # (5,) per nanomaggy

    def take(self, rows: Any) -> "Sources":
        """Return some of them."""
        return Sources(self.position[rows], self.r[rows], self.is_extended[rows], self.images[rows], self.electrons)


def sources_of(field: Field) -> Sources:
    """Find the sources of a field in r down to 18.5 and cut them out of all bands, as `photoz sky` does."""
    frame = field.middle
    found, _ = find_sources(frame.pixels, DETECTION)
    found = found[found["flux"] > 10.0 ** (0.4 * (ZERO_POINT - FAINTEST))]
    ra, dec = frame.wcs.all_pix2world(found["x"], found["y"], 0)
    images = np.stack([_cut(field, *place) for place in zip(ra.tolist(), dec.tolist(), strict=True)])
    r = ZERO_POINT - 2.5 * np.log10(found["flux"])
    electrons = np.array([band.electrons for band in field.bands])
    sources = Sources(
        SkyCoord(ra, dec, unit="deg"), r, found["radius"] > EXTENDED * _psf_radius(field), images, electrons
    )
    return sources.take(np.isfinite(images).all(axis=(1, 2, 3)))


def _cut(field: Field, ra: float, dec: float) -> FloatArray:
    cutouts = [cut(band.frame, ra, dec, SDSS_IMAGES.size, SDSS_IMAGES.pixel_scale) for band in field.bands]
    return np.stack(cutouts, axis=-1)


def _psf_radius(field: Field) -> float:
    """Half-light radius of the PSF in the middle of a field, in r, pixels."""
    band = field.bands[len(field.bands) // 2]
    ny, nx = band.frame.pixels.shape
    image = np.ascontiguousarray(band.psf.at(nx / 2, ny / 2), np.float32)
    (y,), (x,) = (np.array([length / 2 - 0.5]) for length in image.shape)
    radius, _ = sep.flux_radius(image, [x], [y], [min(image.shape) / 2], 0.5, normflux=[1.0])
    return float(radius[0])
