"""What an archive of images has to offer, so that `photoz_survey.sky.cutout_file` can make cutouts of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidInput
from photoz.images import ImageSpec
from photoz.io.layout import NANOMAGGY, same_scale
from photoz_survey.sky.targets import Targets

Pixels = npt.NDArray[np.float32]

# By which A/E(B-V) of the same band may differ.
SAME_EXTINCTION = 0.01


@dataclass(frozen=True)
class Cut:
    """What came of n galaxies."""

    images: Pixels  # (n, size, size, n_bands), nanomaggies; NaN where pixels are masked or outside of the images
    reasons: npt.NDArray[np.str_]  # (n,), why there is no cutout; "" where there is one
    ivar: Pixels | None = None  # inverse variance of the pixels, as images; None if the archive does not have it

    @classmethod
    def empty(cls, n: int, image: ImageSpec) -> "Cut":
        """Return cutouts of which no pixel is known yet, to be filled in."""
        return cls(np.full((n, *image.shape), np.nan, np.float32), np.zeros(n, dtype="U300"))


class Source(Protocol):
    """An archive; `locate` needs its catalogue, and `cut`, which runs in other processes, its images."""

    @property
    def title(self) -> str:
        """What it is, in words."""
        ...

    @property
    def image(self) -> ImageSpec:
        """The cutouts to make."""
        ...

    def locate(self, targets: Targets) -> Targets:
        """Find out where galaxies are in the archive, and what its catalogue knows about them."""
        ...

    def divide(self, targets: Targets) -> Iterator[npt.NDArray[np.intp]]:
        """Yield the rows of galaxies that are best cut together, (m,) each; those that it cannot have are in none."""
        ...

    def cut(self, targets: Targets) -> Cut:
        """Cut galaxies, which `divide` put together."""
        ...


def fitting(title: str, offered: ImageSpec, wanted: ImageSpec) -> ImageSpec:
    """Return the cutouts that a model takes, if an archive offers such; raises `InvalidInput` if it does not."""
    known = dict(zip(offered.bands, offered.extinction_coefficients, strict=True))
    for band, coefficient in zip(wanted.bands, wanted.extinction_coefficients, strict=True):
        if band not in known:
            raise InvalidInput(f"the model takes the band {band}, and {title} has {','.join(offered.bands)}")
        other = known[band]
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
