"""Cut galaxies out of frames, each on its own grid: tangential at the galaxy, north up."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from reproject import reproject_interp

from photoz_survey.sky.astrometry import astrometry
from photoz_survey.sky.source import Pixels

# Pixels around a cutout that its interpolation needs.
MARGIN = 8


@dataclass(frozen=True)
class Frame:
    """An image of the sky in one band."""

    pixels: Pixels  # (ny, nx), nanomaggies per pixel
    wcs: Any  # astropy.wcs.WCS

    @cached_property
    def pixel_scale(self) -> float:
        """Side of a pixel in arcsec."""
        return float(np.sqrt(np.abs(np.linalg.det(self.wcs.pixel_scale_matrix))) * 3600)

    def around(self, ra: float, dec: float, width: float) -> "Frame":
        """Return the part that a cutout of `width` arcsec in any rotation needs; it may have no pixels."""
        x, y = self.wcs.wcs_world2pix(ra, dec, 0)  # distortions are less than a pixel
        if not np.isfinite([x, y]).all():  # more than 90 degrees from the frame
            return replace(self, pixels=self.pixels[:0])
        reach = self._reach(width)
        box = tuple(
            slice(max(round(float(at)) - reach, 0), max(min(round(float(at)) + reach + 1, length), 0))
            for at, length in zip((y, x), self.pixels.shape, strict=True)
        )
        return Frame(self.pixels[box], self.wcs.slice(box))

    def beyond(self, ra: float, dec: float, width: float) -> tuple[int, ...]:
        """Return -1 if such a cutout needs rows before the first, and 1 if it needs rows after the last."""
        _, y = self.wcs.wcs_world2pix(ra, dec, 0)
        reach = self._reach(width)
        return (-1,) * bool(y < reach) + (1,) * bool(y > len(self.pixels) - 1 - reach)

    def _reach(self, width: float) -> int:
        return int(np.ceil(width / self.pixel_scale / np.sqrt(2))) + MARGIN


def read_frame(file: BinaryIO) -> Frame:
    """Read the first image of a FITS file, as SDSS writes it, with the astrometry of its fourth HDU if it has one.

    Raises `OSError` if the file is damaged, `InvalidDataset` as `astrometry`.
    """
    with fits.open(file, memmap=False) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # SDSS's headers have outdated keywords
        pixels, wcs = np.asarray(hdus[0].data, np.float32), WCS(hdus[0].header)
        return Frame(pixels, astrometry(wcs, hdus[3].data[0], pixels.shape) if len(hdus) > 3 else wcs)


def tangential_grid(ra: float, dec: float, size: int, pixel_scale: float) -> Any:
    """Return the WCS of a cutout of size x size pixels of `pixel_scale` arcsec around a position in degrees (ICRS)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [(size + 1) / 2] * 2
    wcs.wcs.cdelt = [-pixel_scale / 3600, pixel_scale / 3600]
    return wcs


def cut(frame: Frame, ra: float, dec: float, size: int, pixel_scale: float) -> Pixels:
    """Resample a cutout around a position.

    The interpolation is bicubic, the closest in `reproject` to the Lanczos kernel of Pasquet et al. 2019. Pixels are
    scaled by the ratio of their areas, so that fluxes are conserved.

    Returns
    -------
    (size, size) float32
        Nanomaggies per pixel; NaN outside of the frame.
    """
    part = frame.around(ra, dec, size * pixel_scale)
    if min(part.pixels.shape) < 2:
        return np.full((size, size), np.nan, np.float32)
    resampled = reproject_interp(
        (part.pixels, part.wcs),
        tangential_grid(ra, dec, size, pixel_scale),
        shape_out=(size, size),
        order="bicubic",
        roundtrip_coords=False,  # needed for all-sky projections only, and takes as long as the rest
        return_footprint=False,
    )
    return np.asarray(resampled * (pixel_scale / frame.pixel_scale) ** 2, np.float32)
