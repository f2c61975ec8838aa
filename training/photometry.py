"""Photometry of cutouts: fluxes under a weight, and their magnitudes."""

import numpy as np

from photoz.grid import FloatArray
from photoz.images import ImageSpec


def gaussian_aperture(size: int, sigma: float) -> FloatArray:
    """Weights (size, size) of a round Gaussian aperture at the centre of a cutout; `size` and `sigma` in pixels."""
    offset = np.arange(size) - (size - 1) / 2.0
    profile = np.exp(-0.5 * (offset / sigma) ** 2)
    return np.asarray(np.outer(profile, profile))


def measure(images: FloatArray, weight: FloatArray) -> FloatArray:
    """Sum the pixels of (n, size, size, n_bands) images under a (size, size) weight; shape (n, n_bands)."""
    return np.asarray(np.einsum("nyxb,yx->nb", images, weight, optimize=True))


def asinh_magnitudes(fluxes: FloatArray, softening: FloatArray) -> FloatArray:
    """Magnitudes of fluxes (n, n_bands) of either sign: -2.5 log10(e) asinh(flux / (2 softening)).

    Lupton, Gunn and Szalay 1999 (AJ 118, 1406) without their zero point. The scale is linear below the softening
    (n_bands,).
    """
    return np.asarray(-2.5 / np.log(10.0) * np.arcsinh(fluxes / (2.0 * softening)))


def deredden(fluxes: FloatArray, ebv: FloatArray, spec: ImageSpec) -> FloatArray:
    """Correct fluxes (n, n_bands) for Galactic extinction: times 10^(0.4 A), A = extinction * ebv."""
    return np.asarray(fluxes * 10.0 ** (0.4 * spec.extinction * ebv[:, None]))
