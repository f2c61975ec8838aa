"""Simulated galaxies: shapes, neighbours and observing conditions.

Sizes and shapes depend on apparent magnitude, colour and chance, **never on the redshift**: the pixels contain no more
information about it than the real photometry.
"""

from dataclasses import dataclass, replace

import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import SDSS_IMAGES, ZERO_POINT, ImageSpec
from training.imaging_surveys import Survey, sdss


@dataclass(frozen=True)
class Variety:
    """How much cutouts of the same galaxies differ."""

    seeing_scatter: float  # of the PSF's width from field to field (natural logarithm), the same in all bands
    band_scatter: float  # of the PSF's width and of the sky noise from band to band
    offset: float  # largest distance from the centre along each axis, pixels
    neighbours: float  # mean number in a cutout of 25 arcsec, down to about magnitude 21
    neighbour_distance: float  # their least distance from the centre in units of the side


# Of the first cutout of each galaxy, which resemble the survey.
USUAL = Variety(0.0, 0.1, 0.5, 0.5, 0.2)

# Of the further ones, for a network that has to cope with worse nights, positions and neighbours.
WIDE = Variety(0.15, 0.1, 1.5, 1.0, 0.15)

# The range by which neighbours are fainter than the sample's galaxies.
NEIGHBOUR_MAGNITUDES = (1.0, 5.0)


@dataclass(frozen=True)
class Galaxies:
    """Shapes and observing conditions of n galaxies."""

    fluxes: FloatArray  # (n, n_bands) nanomaggies
    half_light_radius: FloatArray  # (n,) arcsec, of both bulge and disc, geometric mean of the two axes
    axis_ratio: FloatArray  # (n,) minor over major axis
    position_angle: FloatArray  # (n,) of the major axis from the x axis, radians
    bulge_fraction: FloatArray  # (n,) of the light in the de Vaucouleurs bulge, the same in every band
    offset: FloatArray  # (n, 2) from the centre of the cutout, pixels (x, y)
    fwhm: FloatArray  # (n, n_bands) arcsec
    sky_sigma: FloatArray  # (n, n_bands) nanomaggies per pixel

    def __len__(self) -> int:
        return len(self.fluxes)

    def columns(self) -> dict[str, FloatArray]:
        """Everything but the fluxes, by name, to be written with the cutouts."""
        return {name: values for name, values in vars(self).items() if name != "fluxes"}


def draw_galaxies(
    fluxes: FloatArray,
    spec: ImageSpec,
    rng: np.random.Generator,
    variety: Variety = USUAL,
    survey: Survey | None = None,
) -> Galaxies:
    """Draw shapes and observing conditions, by default SDSS's, for galaxies with positive fluxes (n, n_bands).

    The median size falls from 1.7 arcsec at magnitude 17 by 0.15 dex per magnitude, roughly as in the SDSS Main Galaxy
    Sample; redder galaxies have larger bulges.
    """
    n = len(fluxes)
    known = (survey or sdss()).observations
    observations = [known[band] for band in spec.bands]
    magnitude = ZERO_POINT - 2.5 * np.log10(fluxes[:, len(spec.bands) // 2])
    colour = 2.5 * np.log10(fluxes[:, len(spec.bands) // 2] / fluxes[:, 0])
    log_radius = 0.23 - 0.15 * (magnitude - 17.0) + 0.18 * rng.standard_normal(n)
    cos_inclination = rng.uniform(size=n)
    thickness = 0.25
    scatter = variety.band_scatter
    return Galaxies(
        fluxes=fluxes,
        half_light_radius=np.clip(10.0**log_radius, 0.5, spec.size * spec.pixel_scale / 5.0),
        axis_ratio=np.sqrt(thickness**2 + (1.0 - thickness**2) * cos_inclination**2),
        position_angle=rng.uniform(0.0, np.pi, n),
        bulge_fraction=1.0 / (1.0 + np.exp(-3.0 * (colour - 2.6) - rng.standard_normal(n))),
        offset=rng.uniform(-variety.offset, variety.offset, (n, 2)),
        fwhm=_scattered([o.fwhm for o in observations], n, scatter, rng) * _seeing(n, variety, rng),
        sky_sigma=_scattered([o.sky_sigma for o in observations], n, scatter, rng),
    )


def _scattered(medians: list[float], n: int, scatter: float, rng: np.random.Generator) -> FloatArray:
    return np.array(medians) * np.exp(scatter * rng.standard_normal((n, len(medians))))


def _seeing(n: int, variety: Variety, rng: np.random.Generator) -> FloatArray | float:
    """Factor of all widths of a cutout; no random numbers without scatter, so that usual cutouts stay the same."""
    if not variety.seeing_scatter:
        return 1.0
    return np.asarray(np.exp(variety.seeing_scatter * rng.standard_normal((n, 1))))


def draw_neighbours(
    fluxes: FloatArray,
    spec: ImageSpec,
    rng: np.random.Generator,
    variety: Variety = USUAL,
    survey: Survey | None = None,
) -> tuple[IntArray, Galaxies]:
    """Draw chance neighbours in the cutouts of galaxies.

    Parameters
    ----------
    fluxes : (n, n_bands) float64
        Of the galaxies. Neighbours have the colours of random ones of them, so that they are independent of the galaxy
        in the centre.
    spec : ImageSpec
        With bands of the survey.
    rng : numpy.random.Generator
        Random numbers.
    variety : Variety
        How many there are, and how near.
    survey : Survey, optional
        Whose conditions are drawn; SDSS by default.

    Returns
    -------
    rows : (m,) int
        The cutout of each neighbour.
    neighbours : Galaxies
        m objects, one to five magnitudes fainter than the galaxy with their colours; half of them are point sources.
    """
    side = spec.size * spec.pixel_scale / (SDSS_IMAGES.size * SDSS_IMAGES.pixel_scale)
    counts = rng.poisson(variety.neighbours * side**2, len(fluxes))
    rows = np.repeat(np.arange(len(fluxes)), counts)
    fainter = NEIGHBOUR_MAGNITUDES[0] + np.diff(NEIGHBOUR_MAGNITUDES) * np.sqrt(rng.uniform(size=len(rows)))
    templates = fluxes[rng.integers(0, len(fluxes), len(rows))]
    neighbours = draw_galaxies(templates * 10.0 ** (-0.4 * fainter[:, None]), spec, rng, survey=survey)
    angle = rng.uniform(0.0, 2.0 * np.pi, len(rows))
    distance = spec.size * rng.uniform(variety.neighbour_distance, 0.5, len(rows))
    is_point = rng.uniform(size=len(rows)) < 0.5
    return rows, replace(
        neighbours,
        half_light_radius=np.where(is_point, 0.05, neighbours.half_light_radius),
        offset=np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1),
    )
