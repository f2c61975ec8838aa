"""Rendering of galaxies with known fluxes.

A galaxy is an exponential disc and a de Vaucouleurs bulge with the same centre, size, axis ratio and angle. `render`
sums the profiles in Fourier space, where both have closed or tabulated forms, for all bands at once;
`render_with_galsim` draws each stamp with GalSim, as a reference for the tests.
"""

import math
from functools import cache

import galsim
import numpy as np
from scipy.fft import next_fast_len

from photoz.grid import FloatArray
from photoz.images import ImageSpec
from training.galaxies import Galaxies
from training.imaging_surveys import Survey, sdss

# SDSS truncates its de Vaucouleurs model at this number of half-light radii; see
# https://www.sdss4.org/dr17/algorithms/magnitudes/#mag_model.
BULGE_TRUNCATION = 8.0

EXPONENTIAL_HALF_LIGHT = 1.6783469900166605  # half-light radius of exp(-r), in scale lengths

# Double-Gaussian PSF as fitted by SDSS's photo pipeline: sigma2 / sigma1 and the ratio b of the central amplitudes,
# medians of psf_sigma2_2G / psf_sigma1_2G and psf_b_2G over the bands of the psField file of run 5754, camcol 3.
PSF_SIGMA_RATIO = 2.4
PSF_AMPLITUDE_RATIO = 0.09

# Radius of the PSF in units of its wider sigma: 3e-4 of the wing's light lies beyond.
PSF_REACH = 4.0


def add_noise(
    stamps: FloatArray, galaxies: Galaxies, spec: ImageSpec, rng: np.random.Generator, survey: Survey | None = None
) -> FloatArray:
    """Add sky noise and photon noise to noise-free stamps (n, size, size, n_bands) in nanomaggies; float32.

    The noise is Gaussian: with tens of electrons per pixel from the sky, it hardly differs from Poisson noise.
    """
    conditions = (survey or sdss()).observations
    electrons = np.array([conditions[band].electrons for band in spec.bands])
    variance = galaxies.sky_sigma[:, None, None] ** 2 + np.maximum(stamps, 0.0) / electrons
    noise = rng.standard_normal(stamps.shape, dtype=np.float32)
    return np.asarray(stamps + np.sqrt(variance) * noise, dtype=np.float32)


def render(galaxies: Galaxies, spec: ImageSpec) -> FloatArray:
    """Draw noise-free stamps (n, size, size, n_bands) float32 in nanomaggies per pixel by sums in Fourier space."""
    stamps = np.empty((len(galaxies), *spec.shape), dtype=np.float32)
    for row in range(len(galaxies)):
        stamps[row] = _draw(galaxies, row, spec)
    return stamps


def _draw(galaxies: Galaxies, row: int, spec: ImageSpec) -> FloatArray:
    """Draw one galaxy, (size, size, n_bands), on a grid large enough that its light does not wrap around."""
    side = _grid_side(galaxies, row, spec)
    kx, ky = 2.0 * np.pi * np.fft.rfftfreq(side), 2.0 * np.pi * np.fft.fftfreq(side)[:, None]
    pixel = np.sinc(kx / (2.0 * np.pi)) * np.sinc(ky / (2.0 * np.pi))
    profile = _profile(galaxies, row, kx, ky, spec) * pixel * _shift(galaxies.offset[row], kx, ky, spec)
    fwhm = galaxies.fwhm[row] / spec.pixel_scale
    bands = np.stack(
        [flux * profile * _psf(kx**2 + ky**2, f) for flux, f in zip(galaxies.fluxes[row], fwhm, strict=True)]
    )
    drawn = np.fft.irfft2(bands.astype(np.complex64), s=(side, side))
    return np.moveaxis(drawn[:, : spec.size, : spec.size], 0, -1)


def _grid_side(galaxies: Galaxies, row: int, spec: ImageSpec) -> int:
    """Return the smallest fast FFT size in pixels with which periodic images do not reach the cutout."""
    major = galaxies.half_light_radius[row] / np.sqrt(galaxies.axis_ratio[row])
    wing = PSF_SIGMA_RATIO * _double_gaussian(galaxies.fwhm[row].max())[1]
    reach = (BULGE_TRUNCATION * major + PSF_REACH * wing) / spec.pixel_scale
    to_edge = spec.size / 2.0 + np.abs(galaxies.offset[row]).max()
    return int(next_fast_len(max(spec.size, math.ceil(to_edge + reach)), real=True))


def _profile(galaxies: Galaxies, row: int, kx: FloatArray, ky: FloatArray, spec: ImageSpec) -> FloatArray:
    """Fourier transform of one galaxy's light, of unit flux, on the grid of wave numbers."""
    angle, ratio = galaxies.position_angle[row], galaxies.axis_ratio[row]
    radius = galaxies.half_light_radius[row] / spec.pixel_scale
    along = (np.cos(angle) * kx + np.sin(angle) * ky) * radius / np.sqrt(ratio)
    across = (np.cos(angle) * ky - np.sin(angle) * kx) * radius * np.sqrt(ratio)
    k_squared = along**2 + across**2
    disc = (1.0 + k_squared / EXPONENTIAL_HALF_LIGHT**2) ** -1.5
    log_k, bulge = _bulge_table()
    bulge_fraction = galaxies.bulge_fraction[row]
    return np.asarray(
        (1.0 - bulge_fraction) * disc
        + bulge_fraction * np.interp(0.5 * np.log(np.maximum(k_squared, 1e-20)), log_k, bulge)
    )


@cache
def _bulge_table() -> tuple[FloatArray, FloatArray]:
    """Fourier transform of the truncated de Vaucouleurs profile of unit half-light radius, by the logarithm of k."""
    bulge = galsim.DeVaucouleurs(half_light_radius=1.0, trunc=BULGE_TRUNCATION)
    log_k = np.linspace(np.log(1e-3), np.log(1e3), 4000)
    return log_k, np.array([bulge.kValue(k, 0.0).real for k in np.exp(log_k)])


def _shift(offset: FloatArray, kx: FloatArray, ky: FloatArray, spec: ImageSpec) -> FloatArray:
    """Phase that moves the centre of light from pixel (0, 0) to the centre of the cutout plus the offset."""
    x, y = (spec.size - 1) / 2.0 + offset
    return np.asarray(np.exp(-1j * (kx * x + ky * y)))


def _psf(k_squared: FloatArray, fwhm: float) -> FloatArray:
    """Fourier transform of the double Gaussian; `fwhm` in pixels."""
    core, sigma = _double_gaussian(fwhm)
    wing = np.exp(-0.5 * k_squared * (PSF_SIGMA_RATIO * sigma) ** 2)
    return np.asarray(core * np.exp(-0.5 * k_squared * sigma**2) + (1.0 - core) * wing)


def _double_gaussian(fwhm: float) -> tuple[float, float]:
    """Return the fraction of light in the core and the core's sigma, in the unit of `fwhm`."""
    core = 1.0 / (1.0 + PSF_AMPLITUDE_RATIO * PSF_SIGMA_RATIO**2)
    return core, fwhm / _unit_fwhm()


@cache
def _unit_fwhm() -> float:
    """Full width at half maximum of the double Gaussian whose core has sigma 1."""
    r = np.linspace(0.0, 3.0, 30001)
    profile = np.exp(-0.5 * r**2) + PSF_AMPLITUDE_RATIO * np.exp(-0.5 * (r / PSF_SIGMA_RATIO) ** 2)
    return 2.0 * float(np.interp(-0.5 * profile[0], -profile, r))


def render_with_galsim(galaxies: Galaxies, spec: ImageSpec) -> FloatArray:
    """Draw the same stamps as `render` with GalSim, one by one; ten times slower."""
    stamps = np.empty((len(galaxies), *spec.shape), dtype=np.float32)
    for row in range(len(galaxies)):
        light = _galsim_profile(galaxies, row)
        for band, (flux, fwhm) in enumerate(zip(galaxies.fluxes[row], galaxies.fwhm[row], strict=True)):
            core, sigma = _double_gaussian(fwhm)
            wing = galsim.Gaussian(sigma=PSF_SIGMA_RATIO * sigma, flux=1 - core)
            seen = galsim.Convolve(light, galsim.Gaussian(sigma=sigma, flux=core) + wing).withFlux(flux)
            offset = galsim.PositionD(*galaxies.offset[row])
            image = seen.drawImage(nx=spec.size, ny=spec.size, scale=spec.pixel_scale, offset=offset)
            stamps[row, :, :, band] = image.array
    return stamps


def _galsim_profile(galaxies: Galaxies, row: int) -> galsim.GSObject:
    radius, bulge_fraction = galaxies.half_light_radius[row], galaxies.bulge_fraction[row]
    disc = galsim.Exponential(half_light_radius=radius, flux=1.0 - bulge_fraction)
    bulge = galsim.DeVaucouleurs(half_light_radius=radius, trunc=BULGE_TRUNCATION * radius, flux=bulge_fraction)
    shear = galsim.Shear(q=galaxies.axis_ratio[row], beta=galaxies.position_angle[row] * galsim.radians)
    return (disc + bulge).shear(shear)
