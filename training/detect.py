"""Find the sources in an image, by SExtractor's method."""

from typing import Any

import numpy as np
import sep
from numpy.lib.recfunctions import append_fields

from photoz.grid import FloatArray, IntArray

MAX_BLENDED = 100_000  # sources that touch
MIN_AREA = 5  # pixels above the threshold that a source has at least


def background_noise(pixels: FloatArray) -> float:
    """Return the standard deviation of the pixels (ny, nx) of an image between its sources; NaN pixels are masked."""
    return float(sep.Background(np.ascontiguousarray(pixels, np.float32), mask=np.isnan(pixels)).globalrms)


def find_sources(pixels: FloatArray, threshold: float) -> tuple[Any, IntArray]:
    """Return the sources in an image (ny, nx) without sky, and the number of the source to which each pixel belongs.

    The threshold is in units of the noise. Sources are a structured array (n,) with `x` and `y` from 0, `flux`, `npix`
    and the other columns of `sep.extract`, and `radius`, that of half of the light; they count from 1, and 0 is none.
    NaN pixels are masked.
    """
    mask = np.isnan(pixels)
    image = np.where(mask, 0.0, pixels).astype(np.float32)
    sep.set_extract_pixstack(2 * image.size)  # a globular cluster has more pixels and stars than it expects
    sep.set_sub_object_limit(MAX_BLENDED)
    found, segments = sep.extract(
        image, threshold, err=background_noise(pixels), mask=mask, minarea=MIN_AREA, segmentation_map=True
    )
    radius, _ = sep.flux_radius(image, found["x"], found["y"], 6.0 * found["a"], 0.5, normflux=found["flux"])
    return append_fields(found, "radius", radius, usemask=False), segments
