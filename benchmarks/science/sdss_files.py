"""Optics and noise from SDSS's own files, and noise measured in its images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.polynomial.polynomial import polyval2d
from scipy import ndimage

from photoz.grid import BoolArray, FloatArray
from photoz.images import SDSS_IMAGES

BANDS = SDSS_IMAGES.bands

CENTRE = (744.5, 1023.5)  # row and column in the middle of an SDSS field of 1489 x 2048 pixels
MAGNITUDE_20 = 10.0  # nanomaggies of an object of magnitude 20; `flux20` is its counts
MIN_BLOCKS = 50  # fewer are too few for a deviation


@dataclass(frozen=True)
class Conditions:
    """Optics and noise of one field, or of simulated images; each value is (5,) float, for u to z."""

    fwhm_image: FloatArray  # arcsec, of an image of the PSF
    fwhm_model: FloatArray  # arcsec, of its double Gaussian
    sigma_ratio: FloatArray  # wide over narrow Gaussian
    amplitude_ratio: FloatArray
    electrons: FloatArray  # photo-electrons per nanomaggy
    sky_sigma: FloatArray  # nanomaggies per pixel
    pixel_scale: FloatArray  # arcsec; NaN if the files do not give it


def read_field(path: Path) -> Conditions:
    """Read a psField file; counts become nanomaggies by the photoObj file of the field, else by the file's own flux20.

    The noise of the sky is sqrt(sky / gain + dark variance) in counts, see
    https://data.sdss.org/datamodel/files/BOSS_PHOTOOBJ/frames/RERUN/RUN/CAMCOL/frame.html. The column `skysig` is not
    used: it includes the light of the objects.
    """
    with fits.open(path) as hdus:
        field = hdus[6].data[0]
        stars = [kl_psf(hdus[1 + band].data) for band in range(len(BANDS))]
        nanomaggies = MAGNITUDE_20 / np.asarray(hdus[7].data["flux20"], dtype=np.float64)
    pixel_scale = np.full(len(BANDS), np.nan)
    if (objects := path.with_name(path.name.replace("psField", "photoObj") + "s")).exists():
        table = fits.getdata(objects)
        nanomaggies, pixel_scale = (np.median(table[name], axis=0) for name in ("NMGYPERCOUNT", "PIXSCALE"))
    sigma, wide, amplitude = (field[f"psf_{name}_2G"] for name in ("sigma1", "sigma2", "b"))
    models = [double_gaussian(*parameters) for parameters in zip(sigma, wide, amplitude, strict=True)]
    return Conditions(
        fwhm_image=SDSS_IMAGES.pixel_scale * np.array([fwhm(star) for star in stars]),
        fwhm_model=SDSS_IMAGES.pixel_scale * np.array([fwhm(model) for model in models]),
        sigma_ratio=wide / sigma,
        amplitude_ratio=amplitude,
        electrons=field["gain"] / nanomaggies,
        sky_sigma=nanomaggies * np.sqrt(field["sky"] / field["gain"] + field["dark_variance"]),
        pixel_scale=pixel_scale,
    )


def kl_psf(components: Any) -> FloatArray:
    """Image of the PSF in the middle of a field, shape (51, 51), from the Karhunen-Loeve images of a psField file.

    The weight of each image is a polynomial in row and column, in units of 1,000 pixels.
    """
    row, column = (pixel / 1000.0 for pixel in CENTRE)
    image = np.zeros(())
    for component in components:
        weight = polyval2d(row, column, component["c"][: component["nrow_b"], : component["ncol_b"]])
        image = image + weight * component["RROWS"].astype(float).reshape(component["RNROW"], component["RNCOL"])
    return image


def double_gaussian(sigma: float, wide: float, amplitude: float) -> FloatArray:
    """Image of the double Gaussian, shape (51, 51)."""
    y, x = np.indices((51, 51)) - 25
    square = x**2 + y**2
    return np.asarray(np.exp(-0.5 * square / sigma**2) + amplitude * np.exp(-0.5 * square / wide**2))


def fwhm(star: FloatArray) -> float:
    """Full width at half maximum in pixels: diameter of the disc with the area that is brighter than half the peak.

    The star is on the middle pixel of a square image and is interpolated by cubic splines.
    """
    middle, step = star.shape[0] // 2, 0.05
    offsets = np.arange(-15.0, 15.0, step)
    fine = ndimage.map_coordinates(star, np.meshgrid(middle + offsets, middle + offsets, indexing="ij"), order=3)
    return float(2.0 * step * np.sqrt(np.count_nonzero(fine > 0.5 * fine.max()) / np.pi))


def read_image(path: Path) -> tuple[FloatArray, float]:
    """Read an image and the side of its pixels in arcsec."""
    image, header = fits.getdata(path, header=True)
    # The determinant, since images may be rotated: one element alone is not the size of a pixel.
    matrix = [[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)]
    return image, 3600.0 * float(np.sqrt(abs(np.linalg.det(matrix))))


def is_sky(image: FloatArray, scale: float) -> BoolArray:
    """Pixels farther than 2 arcsec from any source (3 sigma in the image smoothed by 1 arcsec) and from empty ones."""
    empty = image == 0
    smooth = ndimage.gaussian_filter(image.astype(np.float64), 1.0 / scale)
    level = np.median(smooth[~empty])
    sigma = 1.4826 * np.median(np.abs(smooth[~empty] - level))
    source = empty | (smooth > level + 3.0 * sigma)
    return np.asarray(~ndimage.binary_dilation(source, iterations=max(round(2.0 / scale), 1)))


def block_noise(sky: FloatArray, n: int) -> float:
    """Deviation (1.4826 MAD) of the means of blocks of n x n pixels, without those that hold a NaN.

    Noise that is independent from pixel to pixel falls as 1 / n. Resampling correlates neighbours: then single pixels
    show too little noise, and only blocks wider than the kernel of the resampling show all of it.
    """
    rows, columns = sky.shape[0] // n, sky.shape[1] // n
    means = sky[: rows * n, : columns * n].reshape(rows, n, columns, n).mean(axis=(1, 3))
    means = means[np.isfinite(means)]
    if len(means) < MIN_BLOCKS:
        return np.nan
    return float(1.4826 * np.median(np.abs(means - np.median(means))))


def correlation(sky: FloatArray) -> float:
    """Correlation of pixels that touch, mean over rows and columns."""
    deviations = sky - np.nanmedian(sky)
    products = [np.nanmean(d[1:] * d[:-1]) for d in (deviations, deviations.T)]
    return float(np.mean(products) / np.nanmean(deviations**2))
