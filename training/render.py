"""Rendering of galaxies with known fluxes.

A galaxy is an exponential disc and a de Vaucouleurs bulge with the same centre, size, axis ratio and angle. `render`
sums the profiles in Fourier space, where both have closed or tabulated forms, for all bands at once;
`render_with_galsim` draws each stamp with GalSim, as a reference for the tests.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import galsim
import numpy as np
from scipy.fft import next_fast_len

from photoz.grid import FloatArray
from photoz.images import ImageSpec
from training.galaxies import Galaxies

# SDSS truncates its de Vaucouleurs model at this number of half-light radii; see
# https://www.sdss4.org/dr17/algorithms/magnitudes/#mag_model.
BULGE_TRUNCATION = 8.0

EXPONENTIAL_HALF_LIGHT = 1.6783469900166605  # half-light radius of exp(-r), in scale lengths

# Radius of the PSF in units of its wider sigma: 3e-4 of the wing's light lies beyond.
PSF_REACH = 4.0


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
    bands = np.stack(
        [
            flux * profile * psf.transform(kx**2 + ky**2)
            for flux, psf in zip(galaxies.fluxes[row], psfs_of(galaxies, row, spec.pixel_scale), strict=True)
        ]
    )
    drawn = np.fft.irfft2(bands.astype(np.complex64), s=(side, side))
    return np.moveaxis(drawn[:, : spec.size, : spec.size], 0, -1)


def _grid_side(galaxies: Galaxies, row: int, spec: ImageSpec) -> int:
    """Return the smallest fast FFT size in pixels with which periodic images do not reach the cutout."""
    major = galaxies.half_light_radius[row] / np.sqrt(galaxies.axis_ratio[row])
    wing = max(psf.sigma2 for psf in psfs_of(galaxies, row, spec.pixel_scale))
    reach = BULGE_TRUNCATION * major / spec.pixel_scale + PSF_REACH * wing
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


@dataclass(frozen=True)
class DoubleGaussian:
    """A PSF: two Gaussians with the same centre."""

    core: float  # fraction of the light in the narrower one
    sigma1: float  # pixels
    sigma2: float

    def transform(self, k_squared: FloatArray) -> FloatArray:
        """Fourier transform; `k_squared` in radians per pixel, squared."""
        narrow, wide = (np.exp(-0.5 * k_squared * sigma**2) for sigma in (self.sigma1, self.sigma2))
        return np.asarray(self.core * narrow + (1.0 - self.core) * wide)


def psfs_of(galaxies: Galaxies, row: int, pixel_scale: float) -> list[DoubleGaussian]:
    """Return the PSFs of a galaxy by band."""
    psfs = []
    shapes = (galaxies.fwhm, galaxies.psf_sigma_ratio, galaxies.psf_amplitude_ratio)
    for fwhm, ratio, amplitude in zip(*(shape[row].tolist() for shape in shapes), strict=True):
        sigma = fwhm / pixel_scale / _unit_fwhm(ratio, amplitude)
        psfs.append(DoubleGaussian(1.0 / (1.0 + amplitude * ratio**2), sigma, ratio * sigma))
    return psfs


@lru_cache(maxsize=1024)
def _unit_fwhm(ratio: float, amplitude: float) -> float:
    """Full width at half maximum of the double Gaussian whose core has sigma 1."""
    r = np.linspace(0.0, 3.0, 30001)
    profile = np.exp(-0.5 * r**2) + amplitude * np.exp(-0.5 * (r / ratio) ** 2)
    return 2.0 * float(np.interp(-0.5 * profile[0], -profile, r))


def render_with_galsim(galaxies: Galaxies, spec: ImageSpec) -> FloatArray:
    """Draw the same stamps as `render` with GalSim, one by one; ten times slower."""
    stamps = np.empty((len(galaxies), *spec.shape), dtype=np.float32)
    for row in range(len(galaxies)):
        light = galsim_profile(galaxies, row)
        for band, (flux, psf) in enumerate(zip(galaxies.fluxes[row], psfs_of(galaxies, row, 1.0), strict=True)):
            core = galsim.Gaussian(sigma=psf.sigma1, flux=psf.core)
            wing = galsim.Gaussian(sigma=psf.sigma2, flux=1.0 - psf.core)
            seen = galsim.Convolve(light, core + wing).withFlux(flux)
            offset = galsim.PositionD(*galaxies.offset[row])
            image = seen.drawImage(nx=spec.size, ny=spec.size, scale=spec.pixel_scale, offset=offset)
            stamps[row, :, :, band] = image.array
    return stamps


def galsim_profile(galaxies: Galaxies, row: int) -> galsim.GSObject:
    """Return the light of a galaxy, of unit flux, without the PSF; lengths in arcsec."""
    radius, bulge_fraction = galaxies.half_light_radius[row], galaxies.bulge_fraction[row]
    disc = galsim.Exponential(half_light_radius=radius, flux=1.0 - bulge_fraction)
    bulge = galsim.DeVaucouleurs(half_light_radius=radius, trunc=BULGE_TRUNCATION * radius, flux=bulge_fraction)
    shear = galsim.Shear(q=galaxies.axis_ratio[row], beta=galaxies.position_angle[row] * galsim.radians)
    return (disc + bulge).shear(shear)
