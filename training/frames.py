"""Draw galaxies into real frames, at places that no bright source covers: real noise, sky, PSF and neighbours.

The method is that of Balrog (Suchyta et al. 2016, MNRAS 457, 786). GalSim draws each galaxy into a copy of the pixels
around its place, from which it is cut as `photoz sky` does.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import galsim
import numpy as np
from scipy.ndimage import distance_transform_edt

from photoz.errors import InvalidDataset
from photoz.grid import BoolArray, FloatArray
from photoz.images import ZERO_POINT, ImageSpec
from photoz.io.cutouts import Column
from photoz.io.frame import MARGIN, Frame, cut
from training.detect import background_noise, find_sources
from training.galaxies import Galaxies
from training.imaging_surveys import Survey
from training.observed import Observed, read_observed
from training.render import galsim_profile

DETECTION = 1.5  # threshold of a source, in units of the noise of a pixel

# Sources up to a magnitude in the middle band are at least this far from a galaxy, in units of the side of a cutout:
# what is fainter or farther is a neighbour.
CLEAR_OF = ((21.0, 0.2), (17.5, 0.5))

CACHED = 4  # fields


@dataclass(frozen=True)
class Field:
    """The frames of a field, and where galaxies can be drawn."""

    bands: tuple[Observed, ...]
    places: FloatArray  # (n, 2) x and y in pixels of the middle band, from 0

    @property
    def middle(self) -> Frame:
        """The frame in which the places are."""
        return self.bands[len(self.bands) // 2].frame

    def with_noise(self, rng: np.random.Generator) -> "Field":
        """Return the field with Gaussian noise in place of all pixels, of the same standard deviation."""
        return replace(self, bands=tuple(replace(band, frame=_noise_like(band.frame, rng)) for band in self.bands))


def _noise_like(frame: Frame, rng: np.random.Generator) -> Frame:
    sigma = background_noise(frame.pixels)
    return replace(frame, pixels=(sigma * rng.standard_normal(frame.pixels.shape)).astype(np.float32))


@lru_cache(maxsize=CACHED)
def read_field(paths: tuple[Path, ...], spec: ImageSpec) -> Field:
    """Read the frames of a field, one of each band of the cutouts; raises `InvalidDataset` if they cannot be used."""
    bands = tuple(read_observed(path) for path in paths)
    middle = bands[len(bands) // 2].frame
    places = open_places(middle, spec)
    if not len(places):
        raise InvalidDataset(f"{paths[len(bands) // 2]} has no place for a galaxy that no bright source covers")
    return Field(bands, places)


def open_places(frame: Frame, spec: ImageSpec) -> FloatArray:
    """Return the pixels (n, 2) of a frame, x and y from 0, at which a cutout has no bright source in its way."""
    sources, segments = find_sources(frame.pixels, DETECTION)
    side = spec.size * spec.pixel_scale / frame.pixel_scale  # pixels of the frame
    is_open = np.zeros(frame.pixels.shape, bool)
    edge = int(np.ceil(side / np.sqrt(2.0))) + MARGIN
    is_open[edge:-edge, edge:-edge] = True
    is_open &= _distance_to(np.isnan(frame.pixels)) > side / np.sqrt(2.0)
    for magnitude, distance in CLEAR_OF:
        bright = np.append(False, sources["flux"] > 10.0 ** (0.4 * (ZERO_POINT - magnitude)))
        is_open &= _distance_to(bright[segments]) >= distance * side
    return np.argwhere(is_open)[:, ::-1].astype(np.float64)


def _distance_to(these: BoolArray) -> FloatArray:
    """Return the distance of each pixel to the nearest of these, infinite if there is none."""
    return np.asarray(distance_transform_edt(~these)) if these.any() else np.full(these.shape, np.inf)


def draw_into(
    field: Field, galaxies: Galaxies, spec: ImageSpec, survey: Survey, rng: np.random.Generator
) -> tuple[FloatArray, dict[str, Column]]:
    """Draw galaxies at random places of a field, with their photon noise.

    Returns the cutouts (n, size, size, n_bands) float32 in nanomaggies, and their columns: the shapes, and the places
    `frame_ra` and `frame_dec` in degrees. The PSF is that of the frames.
    """
    places = rng.choice(field.places, len(galaxies)) + rng.uniform(-0.5, 0.5, (len(galaxies), 2))
    ra, dec = np.stack(field.middle.wcs.all_pix2world(places, 0), axis=1)
    images = np.empty((len(galaxies), *spec.shape), np.float32)
    for row, position in enumerate(zip(ra.tolist(), dec.tolist(), strict=True)):
        west, north = galaxies.offset[row] * spec.pixel_scale  # x and y of a cutout, and GalSim's u and v
        profile = galsim_profile(galaxies, row).shift(west, north)
        for index, (name, band) in enumerate(zip(spec.bands, field.bands, strict=True)):
            electrons = band.electrons or survey.observations[name].electrons
            part = band.frame.around(*position, spec.size * spec.pixel_scale)
            light = _draw(band, part, profile.withFlux(galaxies.fluxes[row, index]), position)
            light += np.sqrt(np.maximum(light, 0.0) / electrons) * rng.standard_normal(light.shape)
            drawn = replace(part, pixels=np.asarray(part.pixels + light, np.float32))
            images[row, ..., index] = cut(drawn, *position, spec.size, spec.pixel_scale)
    shapes = {name: values for name, values in galaxies.columns().items() if not name.startswith(("fwhm", "psf_"))}
    return images, {**shapes, "frame_ra": ra, "frame_dec": dec}


def _draw(band: Observed, part: Frame, galaxy: galsim.GSObject, position: tuple[float, float]) -> FloatArray:
    """Draw a galaxy without noise in the pixels of a part of a frame."""
    x, y = (float(at) for at in part.wcs.all_world2pix(*position, 0))
    centre = galsim.PositionD(x + 1.0, y + 1.0)  # GalSim counts from 1
    local = galsim.AstropyWCS(wcs=part.wcs).local(image_pos=centre)
    pixels = band.psf.at(*band.frame.wcs.all_world2pix(*position, 0))
    psf = galsim.InterpolatedImage(galsim.Image(pixels, wcs=local), flux=1.0)
    image = galsim.Image(part.pixels.shape[1], part.pixels.shape[0], wcs=local, dtype=np.float64)
    galsim.Convolve(galaxy, psf).drawImage(image=image, center=centre, method="no_pixel")
    return np.asarray(image.array)
