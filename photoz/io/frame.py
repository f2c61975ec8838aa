"""Cut galaxies out of a large image of the sky, pixel by pixel or resampled to a grid of their own."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import UnsupportedType
from photoz.io.formats import FITS

Pixels = npt.NDArray[np.float32]

# Pixels around a cutout that its interpolation needs.
MARGIN = 8


@dataclass(frozen=True)
class Frame:
    """An image of the sky in one band."""

    pixels: Any  # (ny, nx), array or what has its shape and slices
    wcs: Any  # astropy.wcs.WCS

    @cached_property
    def pixel_scale(self) -> float:
        """Side of a pixel in arcsec."""
        return float(np.sqrt(np.abs(np.linalg.det(self.wcs.pixel_scale_matrix))) * 3600)

    def around(self, ra: float, dec: float, width: float) -> "Frame":
        """Return the part that a cutout of `width` arcsec in any rotation needs; it may have no pixels."""
        x, y = self.wcs.wcs_world2pix(ra, dec, 0)  # distortions are less than a pixel
        if not np.isfinite([x, y]).all():  # more than 90 degrees from the frame
            return replace(self, pixels=self.pixels[:0, :0])
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


def tangential_grid(ra: float, dec: float, size: int, pixel_scale: float) -> Any:
    """Return the WCS of a cutout of size x size pixels of `pixel_scale` arcsec around a position in degrees (ICRS)."""
    wcs = FITS.load("astropy.wcs").WCS(naxis=2)
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
        Flux per pixel, in the unit of the frame; NaN outside of the frame. Raises `UnsupportedType` without reproject.
    """
    try:
        from reproject import reproject_interp
    except ModuleNotFoundError as error:
        raise UnsupportedType("resampling needs reproject: install it with pip install 'photoz[sky]'") from error
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


def cut_pixels(frame: Frame, x: float, y: float, size: int) -> Pixels:
    """Cut out the pixels around pixel x, y, which may be fractions: (size, size) float32, NaN outside of the frame."""
    from astropy.nddata import NoOverlapError, overlap_slices

    pixels = np.full((size, size), np.nan, np.float32)
    try:
        of_frame, of_cutout = overlap_slices(frame.pixels.shape, pixels.shape, (y, x), mode="partial")
    except (NoOverlapError, ValueError):  # the second if the position is not finite
        return pixels
    pixels[of_cutout] = frame.pixels[of_frame]
    return pixels
