"""The cutout service of the DESI Legacy Imaging Surveys, as a source of cutouts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from photoz.errors import reason
from photoz.images import ImageSpec
from photoz.io.frame import Pixels
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.session import ArchiveError
from photoz_survey.sky.source import Cut, fitting
from photoz_survey.sky.targets import Targets

ADDRESS = "https://www.legacysurvey.org/viewer/fits-cutout"
TITLE = "the Legacy Surveys"

PIXEL_SCALE = 0.262  # arcsec

# A/E(B-V) of the catalogues of DR10; `training/surveys/legacy.toml` cites the source.
EXTINCTION = {"g": 3.214, "r": 2.165, "i": 1.592, "z": 1.211}

# Bands by layer; in the north ls-dr10 has no i.
LAYERS = {"ls-dr9": ("g", "r", "z"), "ls-dr10": ("g", "r", "i", "z")}

AT_ONCE = 32

NOT_COVERED = "no image covers it"

TIMEOUT = (3.0, 30.0)  # seconds to connect, and to wait: the service makes cutouts when they are asked for


@dataclass(frozen=True)
class LegacySurveys:
    """A layer of the cutout service at an address. Without a catalogue, E(B-V) comes from the list or from maps."""

    address: str
    layer: str
    files: FileCache
    image: ImageSpec

    @classmethod
    def of(cls, address: str, layer: str, files: FileCache) -> "LegacySurveys":
        """Return the source of cutouts in all bands of one of `LAYERS`."""
        bands = LAYERS[layer]
        coefficients = tuple(EXTINCTION[band] for band in bands)
        image = ImageSpec(bands=bands, pixel_scale=PIXEL_SCALE, extinction_coefficients=coefficients)
        return cls(address, layer, files, image)

    @property
    def title(self) -> str:
        """Name of the source, for messages."""
        return f"layer {self.layer} of {TITLE}"

    def for_images(self, wanted: ImageSpec) -> "LegacySurveys":
        """Return the source of the cutouts that a model takes; raises `InvalidInput` if the layer lacks them."""
        return replace(self, image=fitting(self.title, self.image, wanted))

    def locate(self, targets: Targets) -> Targets:
        """Return the galaxies as they are."""
        return targets

    def divide(self, targets: Targets) -> Iterator[npt.NDArray[np.intp]]:
        """Yield the rows of at most `AT_ONCE` galaxies."""
        yield from (np.arange(first, min(first + AT_ONCE, len(targets))) for first in range(0, len(targets), AT_ONCE))

    def cut(self, targets: Targets) -> Cut:
        """Fetch a cutout for each galaxy; pixels without data, whose inverse variance is 0, become NaN."""
        result, ivar = Cut.empty(len(targets), self.image), np.zeros((len(targets), *self.image.shape), np.float32)
        for row, (ra, dec) in enumerate(zip(targets.ra, targets.dec, strict=True)):
            try:
                pixels, ivar[row] = self._fetch(float(ra), float(dec))
            except ArchiveError as error:
                result.reasons[row] = str(error)
                continue
            result.images[row] = np.where(ivar[row] > 0, pixels, np.nan)
            if not ivar[row].any():
                result.reasons[row] = NOT_COVERED
        return replace(result, ivar=ivar)

    def _fetch(self, ra: float, dec: float) -> tuple[Pixels, Pixels]:
        """Return pixels and their inverse variance, (size, size, n_bands) each."""
        from astropy.io import fits

        image, bands = self.image, "".join(self.image.bands)
        query = {"ra": f"{ra:.7f}", "dec": f"{dec:.7f}", "layer": self.layer, "bands": bands}
        query |= {"pixscale": str(image.pixel_scale), "size": str(image.size)}
        name = f"{self.layer}-{bands}-{image.size}-{ra:.7f}{dec:+.7f}.fits"
        with self.files.open(f"{self.address}?{urlencode(query)}&invvar", name) as file:
            try:
                with fits.open(file, memmap=False) as hdus:
                    return self._plane(hdus[0]), self._plane(hdus[1])
            except Exception as error:  # astropy raises anything on what an archive may send
                self.files.discard(name)
                found = reason(error) or type(error).__name__
                raise ArchiveError(f"the answer for {ra} {dec} cannot be used: {found}") from error

    def _plane(self, hdu: Any) -> Pixels:
        """Return the pixels, bands last; the service may send other bands, or a smaller size, than requested."""
        bands, size = hdu.header.get("BANDS", ""), self.image.size
        shape = (len(self.image.bands), size, size)
        data = None if hdu.data is None else np.asarray(hdu.data, np.float32).reshape(-1, *hdu.data.shape[-2:])
        if data is None or data.shape != shape or bands != "".join(self.image.bands):
            got = "no image" if data is None else f"the bands {bands or 'unknown'} in an image of shape {data.shape}"
            raise ArchiveError(f"expected the bands {','.join(self.image.bands)} in shape {shape}, got {got}")
        return np.moveaxis(data, 0, -1)
