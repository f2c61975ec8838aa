"""What the archives of images share: the cutouts that they return, and whether they fit a model."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidInput
from photoz.images import ImageSpec
from photoz.io.frame import Pixels
from photoz.io.layout import NANOMAGGY, same_scale

# Largest relative difference of A/E(B-V) for two surveys' bands to count as the same.
SAME_EXTINCTION = 0.01


@dataclass(frozen=True)
class Cut:
    """Cutouts of n galaxies."""

    images: Pixels  # (n, size, size, n_bands), nanomaggies; NaN if a pixel is masked or outside of the archive's images
    reasons: npt.NDArray[np.str_]  # (n,), why a cutout is missing; "" if it is not
    ivar: Pixels | None = None  # inverse variance of the pixels, as images; None if the archive does not have it

    @classmethod
    def empty(cls, n: int, image: ImageSpec) -> "Cut":
        """Return cutouts of NaN pixels, to be filled in."""
        return cls(np.full((n, *image.shape), np.nan, np.float32), np.zeros(n, dtype="U300"))


def fitting(title: str, offered: ImageSpec, wanted: ImageSpec) -> ImageSpec:
    """Return the cutouts that a model takes; raises `InvalidInput` if an archive does not offer them."""
    coefficients = dict(zip(offered.bands, offered.extinction_coefficients, strict=True))
    for band, coefficient in zip(wanted.bands, wanted.extinction_coefficients, strict=True):
        if band not in coefficients:
            raise InvalidInput(f"the model takes the band {band}, and {title} has {','.join(offered.bands)}")
        other = coefficients[band]
        if coefficient and other and abs(coefficient / other - 1.0) > SAME_EXTINCTION:
            raise InvalidInput(
                f"the model was trained on another {band} band than that of {title}: A/E(B-V) is {coefficient:g} there "
                f"and {other:g} here"
            )
    if not same_scale(offered.pixel_scale, wanted.pixel_scale):
        raise InvalidInput(
            f"the model takes pixels of {wanted.pixel_scale:g} arcsec, and those of {title} are "
            f"{offered.pixel_scale:g} arcsec"
        )
    if wanted.unit != NANOMAGGY:
        raise InvalidInput(f"the model takes pixels in {wanted.unit}, and those of {title} are in {NANOMAGGY}")
    return replace(wanted, pixel_scale=offered.pixel_scale)
