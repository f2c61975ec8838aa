"""The frames of the Sloan Digital Sky Survey, as a source of cutouts."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales

from photoz.errors import InvalidDataset, reason
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.frame import Frame, Pixels, cut
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.catalogue import RELEASE, Catalogue
from photoz_survey.sky.cutting import read_frame
from photoz_survey.sky.session import ArchiveError, Missing
from photoz_survey.sky.source import Cut, fitting
from photoz_survey.sky.targets import Targets

TITLE = f"SDSS DR{RELEASE}"
PATH = f"/dr{RELEASE}/eboss/photoObj/frames"  # follows the address of the archive, and comes before a frame's path

# Most galaxies of a field that are cut together, which limits memory in crowded fields.
AT_ONCE = 256

# Frames that the camera reads out of a band after that of r, of the same field: the header counts those.
LATER = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}

# Of the distortions that a header may describe: astropy takes seconds for one of order 3,000.
SIP_ORDERS, MAX_ORDER = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"), 9

OUTSIDE = "it is outside of its field"


@dataclass(frozen=True, order=True)
class Field:
    """A field of the imaging: a frame in each of the five bands."""

    run: int
    rerun: int
    camcol: int
    number: int

    def name(self, band: str) -> str:
        """Return the name of a frame, unpacked."""
        return f"frame-{band}-{self.run:06d}-{self.camcol}-{self.number:04d}.fits"

    def path(self, band: str) -> str:
        """Return the path of a frame in the archive."""
        return f"{self.rerun}/{self.run}/{self.camcol}/{self.name(band)}.bz2"

    def check(self, band: str, header: Mapping[str, Any]) -> None:
        """Raise `InvalidDataset` if the header of a frame is that of another field or band."""
        frame = self.number if header.get("FRAME") == self.number else self.number + LATER[band]
        if (order := max(header.get(name, 0) for name in SIP_ORDERS)) > MAX_ORDER:
            raise InvalidDataset(f"expected distortions of at most order {MAX_ORDER}, got {order}")
        expected = {"RUN": self.run, "RERUN": self.rerun, "CAMCOL": self.camcol, "FRAME": frame, "FILTER": band}
        for name, value in expected.items():
            if (found := str(header.get(name, value)).strip()) != str(value):
                raise InvalidDataset(f"its header has {name} = {found!r}, expected {value}")


@dataclass(frozen=True)
class SdssFrames:
    """Frames at the address of an archive."""

    address: str
    catalogue: Catalogue
    files: FileCache
    image: ImageSpec = SDSS_IMAGES
    title: str = f"frames of {TITLE}"

    def for_images(self, wanted: ImageSpec) -> "SdssFrames":
        """Return the source of the cutouts that a model takes; raises `InvalidInput` if the archive lacks them."""
        return replace(self, image=fitting(TITLE, SDSS_IMAGES, wanted))

    def locate(self, targets: Targets) -> Targets:
        """Find the fields of galaxies, E(B-V), and the width of the PSF by band, `fwhm` in arcsec, (n, n_bands)."""
        located = sdss.locate(targets, self.catalogue)
        bands = [SDSS_IMAGES.bands.index(band) for band in self.image.bands]
        by_band = {name: values for name, values in located.others.items() if name in sdss.BY_BAND and values.ndim == 2}
        return replace(located, others={**located.others, **{name: by_band[name][:, bands] for name in by_band}})

    def divide(self, targets: Targets) -> Iterator[npt.NDArray[np.intp]]:
        """Yield the rows of the galaxies of each field, in the order of the scans."""
        rows, fields = defaultdict(list), sdss.fields(targets)
        for row in np.flatnonzero((fields >= 0).all(axis=1)):
            rows[tuple(fields[row])].append(row)
        for _, in_field in sorted(rows.items()):
            yield from (np.array(in_field[first : first + AT_ONCE]) for first in range(0, len(in_field), AT_ONCE))

    def cut(self, targets: Targets) -> Cut:
        """Cut galaxies of one field, out of its frames and, at their edges, those before and after it in the scan.

        If one of its frames cannot be had, none of them has a cutout. Raises `Unreachable`.
        """
        field, result = Field(*map(int, sdss.fields(targets)[0])), Cut.empty(len(targets), self.image)
        read = cache(self._read)
        for index, band in enumerate(self.image.bands):
            try:
                read(field, band)
            except ArchiveError as error:
                result.reasons[:] = str(error)
                return result
            for row in np.flatnonzero(result.reasons == ""):
                ra, dec = float(targets.ra[row]), float(targets.dec[row])
                try:
                    result.images[row, ..., index] = self._cut_across(field, band, ra, dec, read)
                except ArchiveError as error:
                    result.reasons[row] = str(error)
            read.cache_clear()
        covered = np.isfinite(result.images).any(axis=(1, 2))  # (n, n_bands)
        result.reasons[~np.all(covered, axis=-1) & (result.reasons == "")] = OUTSIDE
        return result

    def _read(self, field: Field, band: str) -> Frame:
        name = field.name(band)
        with self.files.open(f"{self.address.rstrip('/')}{PATH}/{field.path(band)}", f"{field.rerun}-{name}") as file:
            try:
                field.check(band, fits.getheader(file))
                file.seek(0)
                return _checked(read_frame(file))
            except Exception as error:  # astropy raises anything on what an archive may send
                raise self._unusable(field, band, error) from error

    def _cut_across(
        self, field: Field, band: str, ra: float, dec: float, read: Callable[[Field, str], Frame]
    ) -> Pixels:
        frame = read(field, band)
        pixels = self._cut(field, band, ra, dec, read)
        for step in frame.beyond(ra, dec, self.image.size * self.image.pixel_scale) if np.isnan(pixels).any() else ():
            try:
                beside = self._cut(replace(field, number=field.number + step), band, ra, dec, read)
            except Missing:  # the field is the first or the last of a run
                continue
            pixels = np.where(np.isnan(pixels), beside, pixels)
        return pixels

    def _cut(self, field: Field, band: str, ra: float, dec: float, read: Callable[[Field, str], Frame]) -> Pixels:
        frame = read(field, band)
        try:
            return cut(frame, ra, dec, self.image.size, self.image.pixel_scale)
        except Exception as error:  # of astrometry that fails only when it is used
            raise self._unusable(field, band, error) from error

    def _unusable(self, field: Field, band: str, error: Exception) -> ArchiveError:
        """Discard a frame, and return why."""
        self.files.discard(f"{field.rerun}-{field.name(band)}")
        return ArchiveError(f"{field.name(band)}: {reason(error) or type(error).__name__}")


def _checked(frame: Frame) -> Frame:
    """Return a frame; raises `InvalidDataset` if it is no image of the sky in pixels of SDSS's size."""
    if frame.pixels.ndim != 2 or not frame.wcs.has_celestial:
        raise InvalidDataset(f"expected an image of the sky, got shape {frame.pixels.shape} on {frame.wcs.wcs.ctype}")
    centre = frame.wcs.all_pix2world(*np.divide(frame.pixels.shape[::-1], 2), 0)
    scales = np.array([*proj_plane_pixel_scales(frame.wcs) * 3600, frame.pixel_scale])  # differ if pixels are sheared
    if not (np.abs(scales / SDSS_IMAGES.pixel_scale - 1) < 0.1).all() or not np.isfinite(centre).all():
        raise InvalidDataset(f"expected pixels of {SDSS_IMAGES.pixel_scale} arcsec, got {frame.pixel_scale:.3g}")
    return frame
