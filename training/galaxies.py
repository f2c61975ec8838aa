"""Simulated galaxies: shapes, neighbours and the PSF.

Sizes and shapes depend on apparent magnitude, colour and chance, **never on the redshift**, so that the pixels contain
no more information about it than the real photometry.
"""

from dataclasses import dataclass, replace

import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import SDSS_IMAGES, ZERO_POINT, ImageSpec
from training.imaging_surveys import Survey, sdss


@dataclass(frozen=True)
class Variety:
    """How much cutouts of the same galaxies differ."""

    seeing_scatter: float  # of the PSF's width from field to field (natural logarithm), common to all bands
    offset: float  # largest distance from the centre along each axis, pixels
    neighbours: float  # mean number in a cutout of 25 arcsec, down to about magnitude 21
    neighbour_distance: float  # minimum distance from the centre in units of the side
    sky_left_in: tuple[float, float]  # scatter in units of the noise in a pixel: common to all bands, and of each


# First cutouts, which resemble the survey: SDSS's quartiles of the width in r, 1.30 and 1.58 arcsec (DR7, "Seeing and
# sky brightness"), are those of a scatter of 0.145 with that of the band. With this sky, the medians of the borders
# scatter as in real cutouts, towards dark: by 0.10 to 0.13 of the noise.
USUAL = Variety(0.13, 0.5, 0.5, 0.2, (0.05, 0.05))

# Further cutouts, so that the network learns to handle worse nights, positions, neighbours
# and sky.
WIDE = Variety(0.2, 1.5, 1.0, 0.15, (0.1, 0.1))

# Scatter of the PSF's width from band to band (natural logarithm).
BAND_SCATTER = 0.06

# How much fainter neighbours are than the galaxies of the sample.
NEIGHBOUR_MAGNITUDES = (1.0, 5.0)


@dataclass(frozen=True)
class Galaxies:
    """Shapes of n galaxies, and the PSF through which they are seen."""

    fluxes: FloatArray  # (n, n_bands) nanomaggies
    half_light_radius: FloatArray  # (n,) arcsec, of bulge and disc, geometric mean of the axes
    axis_ratio: FloatArray  # (n,) minor over major axis
    position_angle: FloatArray  # (n,) of the major axis from the x axis, radians
    bulge_fraction: FloatArray  # (n,) of the light, in all bands, from the de Vaucouleurs bulge
    offset: FloatArray  # (n, 2) from the centre of the cutout, pixels (x, y)
    fwhm: FloatArray  # (n, n_bands) arcsec
    psf_sigma_ratio: FloatArray  # (n, n_bands) sigma2 / sigma1 of the PSF, a double Gaussian
    psf_amplitude_ratio: FloatArray  # (n, n_bands) of the central amplitudes

    def __len__(self) -> int:
        return len(self.fluxes)

    def columns(self) -> dict[str, FloatArray]:
        """All columns but the fluxes, to be written with the cutouts."""
        return {name: values for name, values in vars(self).items() if name != "fluxes"}


def draw_galaxies(
    fluxes: FloatArray,
    spec: ImageSpec,
    rng: np.random.Generator,
    variety: Variety = USUAL,
    survey: Survey | None = None,
) -> Galaxies:
    """Draw shapes and the PSF, by default SDSS's, for galaxies with positive fluxes (n, n_bands).

    The median size falls from 1.7 arcsec at magnitude 17 by 0.15 dex per magnitude, roughly as in the SDSS Main Galaxy
    Sample; redder galaxies have larger bulges.
    """
    n = len(fluxes)
    magnitude = ZERO_POINT - 2.5 * np.log10(fluxes[:, len(spec.bands) // 2])
    colour = 2.5 * np.log10(fluxes[:, len(spec.bands) // 2] / fluxes[:, 0])
    log_radius = 0.23 - 0.15 * (magnitude - 17.0) + 0.18 * rng.standard_normal(n)
    cos_inclination = rng.uniform(size=n)
    thickness = 0.25
    observations = [(survey or sdss()).observations[band] for band in spec.bands]
    seeing = variety.seeing_scatter * rng.standard_normal((n, 1)) + BAND_SCATTER * rng.standard_normal(fluxes.shape)
    psf_shape = np.broadcast_to([observation.psf_shape for observation in observations], (*fluxes.shape, 2))
    return Galaxies(
        fluxes=fluxes,
        half_light_radius=np.clip(10.0**log_radius, 0.5, spec.size * spec.pixel_scale / 5.0),
        axis_ratio=np.sqrt(thickness**2 + (1.0 - thickness**2) * cos_inclination**2),
        position_angle=rng.uniform(0.0, np.pi, n),
        bulge_fraction=1.0 / (1.0 + np.exp(-3.0 * (colour - 2.6) - rng.standard_normal(n))),
        offset=rng.uniform(-variety.offset, variety.offset, (n, 2)),
        fwhm=np.array([observation.fwhm for observation in observations]) * np.exp(seeing),
        psf_sigma_ratio=psf_shape[..., 0],
        psf_amplitude_ratio=psf_shape[..., 1],
    )


def draw_neighbours(
    galaxies: Galaxies,
    spec: ImageSpec,
    rng: np.random.Generator,
    variety: Variety = USUAL,
    survey: Survey | None = None,
) -> tuple[IntArray, Galaxies]:
    """Draw chance neighbours in the cutouts of n galaxies, with the PSF of these.

    Returns the cutout of each neighbour, (m,) int, and the m neighbours: one to five magnitudes fainter than a random
    galaxy with the same colours, so that they do not depend on the galaxy in the centre. Half are point sources.
    """
    side = spec.size * spec.pixel_scale / (SDSS_IMAGES.size * SDSS_IMAGES.pixel_scale)
    counts = rng.poisson(variety.neighbours * side**2, len(galaxies))
    rows = np.repeat(np.arange(len(galaxies)), counts)
    fainter = NEIGHBOUR_MAGNITUDES[0] + np.diff(NEIGHBOUR_MAGNITUDES) * np.sqrt(rng.uniform(size=len(rows)))
    templates = galaxies.fluxes[rng.integers(0, len(galaxies), len(rows))]
    neighbours = draw_galaxies(templates * 10.0 ** (-0.4 * fainter[:, None]), spec, rng, survey=survey)
    angle = rng.uniform(0.0, 2.0 * np.pi, len(rows))
    distance = spec.size * rng.uniform(variety.neighbour_distance, 0.5, len(rows))
    is_point = rng.uniform(size=len(rows)) < 0.5
    return rows, replace(
        neighbours,
        half_light_radius=np.where(is_point, 0.05, neighbours.half_light_radius),
        offset=np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1),
        fwhm=galaxies.fwhm[rows],
    )
