"""Galaxies to be drawn: their shapes, and the conditions under which they are seen.

Sizes and shapes follow from the apparent magnitude and colour and from chance alone, **never from the redshift**: so
the pixels carry no more about it than the real photometry does.
"""

from dataclasses import dataclass, replace

import numpy as np

from photoz.grid import FloatArray, IntArray
from photoz.images import SDSS_IMAGES, ImageSpec
from training.catalogue import ZERO_POINT


@dataclass(frozen=True)
class Observation:
    """What telescope and sky do to one band.

    Parameters
    ----------
    fwhm : float
        Median width of the PSF in arcsec.
    sky_sigma : float
        Median noise of the sky per pixel, in nanomaggies.
    electrons : float
        Photo-electrons per nanomaggy.
    """

    fwhm: float
    sky_sigma: float
    electrons: float


# fwhm: medians of the SDSS imaging, u to z. electrons: gain / nanomaggies per count of psField and photoObj files.
# sky_sigma: within the range of those files but for i, 10 % above (python -m benchmarks.realism), and such that
# fluxes under the true profile have the errors that the catalogue itself gives for these galaxies, which a test holds.
SDSS_OBSERVATIONS = {
    "u": Observation(1.53, 0.053, 226.0),
    "g": Observation(1.44, 0.026, 1020.0),
    "r": Observation(1.32, 0.042, 960.0),
    "i": Observation(1.26, 0.066, 740.0),
    "z": Observation(1.29, 0.208, 136.0),
}

# Scatter of seeing and sky noise from field to field (natural logarithm).
FIELD_SCATTER = 0.1

# Objects down to magnitude 21 or so by chance in a cutout of 25 arcsec, how much fainter they are than the sample's
# galaxies (more of them at the faint end), and how near they come to the centre in units of the side.
NEIGHBOURS = 0.5
NEIGHBOUR_MAGNITUDES = (1.0, 5.0)
NEIGHBOUR_DISTANCE = 0.2


@dataclass(frozen=True)
class Galaxies:
    """The shapes of n galaxies and the conditions under which they are seen.

    Parameters
    ----------
    fluxes : (n, n_bands) float64
        Nanomaggies.
    half_light_radius : (n,) float64
        Arcsec, of bulge and disc alike, geometric mean of the two axes.
    axis_ratio, position_angle : (n,) float64
        Minor over major axis; angle of the major axis from the x axis in radians.
    bulge_fraction : (n,) float64
        Part of the light in the de Vaucouleurs bulge, the same in every band.
    offset : (n, 2) float64
        Of the centre from the centre of the cutout, in pixels (x, y).
    fwhm, sky_sigma : (n, n_bands) float64
        Seeing in arcsec and sky noise in nanomaggies per pixel.
    """

    fluxes: FloatArray
    half_light_radius: FloatArray
    axis_ratio: FloatArray
    position_angle: FloatArray
    bulge_fraction: FloatArray
    offset: FloatArray
    fwhm: FloatArray
    sky_sigma: FloatArray

    def __len__(self) -> int:
        return len(self.fluxes)

    def columns(self) -> dict[str, FloatArray]:
        """Everything but the fluxes, by name, to be kept beside the cutouts."""
        return {name: values for name, values in vars(self).items() if name != "fluxes"}


def draw_galaxies(fluxes: FloatArray, spec: ImageSpec, rng: np.random.Generator) -> Galaxies:
    """Draw shapes and observing conditions for galaxies of given fluxes.

    Parameters
    ----------
    fluxes : (n, n_bands) float64
        Nanomaggies, positive.
    spec : ImageSpec
        Its bands must be of SDSS's.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Galaxies
        n galaxies.

    Notes
    -----
    The median size falls from 1.7 arcsec at magnitude 17 by 0.15 dex a magnitude, roughly as in the SDSS Main Galaxy
    Sample; redder galaxies get more bulge.
    """
    n = len(fluxes)
    observations = [SDSS_OBSERVATIONS[band] for band in spec.bands]
    magnitude = ZERO_POINT - 2.5 * np.log10(fluxes[:, len(spec.bands) // 2])
    colour = 2.5 * np.log10(fluxes[:, len(spec.bands) // 2] / fluxes[:, 0])
    log_radius = 0.23 - 0.15 * (magnitude - 17.0) + 0.18 * rng.standard_normal(n)
    cos_inclination = rng.uniform(size=n)
    thickness = 0.25
    return Galaxies(
        fluxes=fluxes,
        half_light_radius=np.clip(10.0**log_radius, 0.5, spec.size * spec.pixel_scale / 5.0),
        axis_ratio=np.sqrt(thickness**2 + (1.0 - thickness**2) * cos_inclination**2),
        position_angle=rng.uniform(0.0, np.pi, n),
        bulge_fraction=1.0 / (1.0 + np.exp(-3.0 * (colour - 2.6) - rng.standard_normal(n))),
        offset=rng.uniform(-0.5, 0.5, (n, 2)),
        fwhm=_scattered([o.fwhm for o in observations], n, rng),
        sky_sigma=_scattered([o.sky_sigma for o in observations], n, rng),
    )


def _scattered(medians: list[float], n: int, rng: np.random.Generator) -> FloatArray:
    return np.array(medians) * np.exp(FIELD_SCATTER * rng.standard_normal((n, len(medians))))


def draw_neighbours(fluxes: FloatArray, spec: ImageSpec, rng: np.random.Generator) -> tuple[IntArray, Galaxies]:
    """Draw other objects that stand by chance in the cutouts of some galaxies.

    Parameters
    ----------
    fluxes : (n, n_bands) float64
        Of the galaxies themselves. Neighbours have the colours of others of them, so that they tell nothing about the
        galaxy in the centre.
    spec : ImageSpec
        Its bands must be of SDSS's.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    rows : (m,) int
        In whose cutout each neighbour stands.
    neighbours : Galaxies
        m objects, one to five magnitudes fainter than the galaxy that lends its colours; half of them are points.
    """
    counts = rng.poisson(NEIGHBOURS * (spec.size / SDSS_IMAGES.size) ** 2, len(fluxes))
    rows = np.repeat(np.arange(len(fluxes)), counts)
    fainter = NEIGHBOUR_MAGNITUDES[0] + np.diff(NEIGHBOUR_MAGNITUDES) * np.sqrt(rng.uniform(size=len(rows)))
    lent = fluxes[rng.integers(0, len(fluxes), len(rows))]
    neighbours = draw_galaxies(lent * 10.0 ** (-0.4 * fainter[:, None]), spec, rng)
    angle = rng.uniform(0.0, 2.0 * np.pi, len(rows))
    distance = spec.size * rng.uniform(NEIGHBOUR_DISTANCE, 0.5, len(rows))
    is_point = rng.uniform(size=len(rows)) < 0.5
    return rows, replace(
        neighbours,
        half_light_radius=np.where(is_point, 0.05, neighbours.half_light_radius),
        offset=np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1),
    )
