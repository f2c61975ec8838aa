"""Cutouts resampled to pixels of another scale."""

import numpy as np
import pytest
from astropy.wcs import WCS
from reproject import reproject_exact

from photoz.errors import InvalidDataset
from photoz.flags import Flag
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.io.layout import conform, described
from photoz.io.options import ReadOptions
from photoz.io.resampling import resample

SPEC = ImageSpec(size=32, bands="gr", pixel_scale=0.396)
RESAMPLE = ReadOptions(resample=True)


def galaxies(size, scale, fwhm=1.3):
    """Return two galaxies with a Gaussian profile in two bands, (2, size, size, 2), each with a flux of 1 and 10."""
    y, x = (np.indices((size, size)) - (size - 1) / 2) * scale
    light = np.exp(-4 * np.log(2) * ((x - 0.1) ** 2 + (y + 0.2) ** 2) / fwhm**2)
    planes = light / light.sum() * np.array([1.0, 10.0])[:, None, None]
    return np.moveaxis(np.array([planes, planes[::-1]]), 1, -1).astype(np.float32)


def grid(size, scale):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [(size + 1) / 2] * 2
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


@pytest.mark.parametrize("scale", [0.168, 0.262, 0.36, 0.5, 0.792])
def test_pixels_are_those_of_reproject_and_flux_and_psf_are_kept(scale):
    size = int(np.ceil(32 * 0.396 / scale)) + 3
    images = galaxies(size, scale)
    resampled = resample(images, 0.396 / scale, 32)
    planes = np.moveaxis(images, -1, 1)
    exact = reproject_exact(
        (planes, grid(size, scale)), grid(32, 0.396), shape_out=(2, 2, 32, 32), return_footprint=False
    )
    np.testing.assert_allclose(np.moveaxis(resampled, -1, 1), exact * (0.396 / scale) ** 2, atol=2e-5)
    np.testing.assert_allclose(resampled.sum((1, 2)), [[1, 10], [10, 1]], rtol=1e-4)
    y, x = (np.indices((32, 32)) - 15.5) * 0.396
    radius = np.hypot(x - 0.1, y + 0.2)[..., np.newaxis]
    fwhm = np.sqrt((resampled * radius**2).sum((1, 2)) / resampled.sum((1, 2)) * 4 * np.log(2))
    np.testing.assert_allclose(
        fwhm, np.hypot(1.3, np.sqrt(8 * np.log(2) / 12) * 0.396), rtol=0.12 if scale > 0.4 else 0.03
    )


def test_masked_pixels_stay_masked():
    images = galaxies(48, 0.264)  # 3 new pixels are 2 old ones
    images[0, 24, 24, 1] = np.nan
    images[1, 0, 47, 0] = np.inf
    masked = np.isnan(resample(images, 1.5, 32))
    assert masked.sum() == 2
    assert masked[0, 16, 16, 1]
    assert masked[1, 0, 31, 0]


def test_cutouts_of_another_scale_are_resampled_and_flagged_if_they_are_large_enough():
    known = {"bands": ("r", "g"), "unit": "nanomaggy", "pixel_scale": 0.198}
    images = galaxies(80, 0.198)
    cutouts, reading = conform(Cutouts(images, {}, **known), SPEC, RESAMPLE)
    assert cutouts.images.shape == (2, 32, 32, 2)
    np.testing.assert_allclose(cutouts.images[:].sum((1, 2)), [[10, 1], [1, 10]], rtol=1e-4)
    assert cutouts.flags == Flag.RESAMPLED
    assert reading.used[1:] == [
        "pixels are in nanomaggy",
        "pixels of 0.198 arcsec are resampled to 0.396 arcsec, RESAMPLED",
        "the central 64x64 of 80x80 pixels",
    ]
    first = np.moveaxis(images, -1, 1)
    np.testing.assert_array_equal(conform(Cutouts(first, {}, **known), SPEC, RESAMPLE)[0].images[1], cutouts.images[1])
    with pytest.raises(InvalidDataset, match=r"^expected cutouts of at least 64x64 pixels, got 80x63$"):
        conform(Cutouts(images[:, :, :63], {}, **known), SPEC, RESAMPLE)
    same, _ = conform(Cutouts(images, {}, **known | {"pixel_scale": 0.396}), SPEC, RESAMPLE)
    assert same.flags == 0
    assert described(Cutouts(images, {}, **known), pixel_scale=0.396).size == 40
