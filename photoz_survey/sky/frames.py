"""The frames of the Sloan Digital Sky Survey, as a source of cutouts."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import ArchiveError, FileCache
from photoz_survey.sky.cutting import Frame, cut, read_frame
from photoz_survey.sky.source import Cut, Pixels, fitting
from photoz_survey.sky.targets import Targets

TITLE = f"SDSS DR{sdss.RELEASE}"
PATH = f"/dr{sdss.RELEASE}/eboss/photoObj/frames"  # follows the address of the archive, and comes before a frame's path

# Most galaxies of a field that are cut together, which limits memory in crowded fields.
AT_ONCE = 256


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

    def neighbours(self) -> Iterator["Field"]:
        """Yield the fields before and after it in its scan, which overlap it by 128 rows."""
        yield replace(self, number=self.number - 1)
        yield replace(self, number=self.number + 1)


@dataclass(frozen=True)
class SdssFrames:
    """Frames at the address of an archive; the catalogue has its own address, None if it is not used."""

    address: str
    catalogue: str | None
    files: FileCache
    image: ImageSpec = SDSS_IMAGES
    title: str = f"frames of {TITLE}"

    def for_images(self, wanted: ImageSpec) -> "SdssFrames":
        """Return the source of the cutouts that a model takes; raises `InvalidInput` if the archive lacks them."""
        return replace(self, image=fitting(TITLE, SDSS_IMAGES, wanted))

    def locate(self, targets: Targets) -> Targets:
        """Find the fields of galaxies, E(B-V), and the width of the PSF by band, `fwhm` in arcsec, (n, n_bands)."""
        located = sdss.locate(targets, self.catalogue, self.files.folder)
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
        """Cut galaxies of one field; if one of its frames is missing, none of them has a cutout."""
        field, result = Field(*map(int, sdss.fields(targets)[0])), Cut.empty(len(targets), self.image)
        read = cache(self._read)
        try:
            for index, band in enumerate(self.image.bands):
                for row, (ra, dec) in enumerate(zip(targets.ra, targets.dec, strict=True)):
                    result.images[row, ..., index] = self._cut_across(field, band, float(ra), float(dec), read)
                read.cache_clear()
        except ArchiveError as error:
            result.reasons[:] = str(error)
        result.reasons[np.isnan(result.images).all(axis=(1, 2, 3)) & (result.reasons == "")] = (
            "it is outside of its field"
        )
        return result

    def _read(self, field: Field, band: str) -> Frame:
        with self.files.open(f"{self.address.rstrip('/')}{PATH}/{field.path(band)}", field.name(band)) as file:
            try:
                return read_frame(file)
            except InvalidDataset as error:
                raise ArchiveError(f"{field.name(band)}: {error}") from error

    def _cut_across(
        self, field: Field, band: str, ra: float, dec: float, read: Callable[[Field, str], Frame]
    ) -> Pixels:
        """Cut a galaxy out of a frame and, at its edges, out of the frames before and after it in the scan."""
        pixels = cut(read(field, band), ra, dec, self.image.size, self.image.pixel_scale)
        for neighbour in field.neighbours() if np.isnan(pixels).any() else ():
            try:
                more = cut(read(neighbour, band), ra, dec, self.image.size, self.image.pixel_scale)
            except ArchiveError:  # the field is the first or the last of a run
                continue
            pixels = np.where(np.isnan(pixels), more, pixels)
        return pixels
