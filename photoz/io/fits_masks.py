"""Images in FITS files together with their masks and weights, whose bad pixels become NaN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.io.cutouts import Reading
from photoz.io.fits_header import KINDS, MASK, OTHER, WEIGHT, WORDS, ImageHeader

# Bits of Rubin's and HSC's masks that make a pixel bad; their numbers are in keywords such as MP_BAD.
BAD_BITS = ("BAD", "NO_DATA", "SAT")

RULES = {WEIGHT: "0", MASK: "not 0"}


@dataclass(frozen=True)
class Plane:
    """An image, and what says which of its pixels are bad."""

    header: ImageHeader
    masks: tuple[ImageHeader, ...] = ()

    def read(self, rows: Any = ...) -> npt.NDArray[Any]:
        """Read rows of the first axis; bad pixels are NaN."""
        pixels = np.asarray(self.header.hdu.section[rows])
        if self.masks and pixels.dtype.kind != "f":
            pixels = pixels.astype(np.float32)
        for mask in self.masks:
            whole = mask.hdu.shape != self.header.hdu.shape  # one mask for all bands
            pixels[np.broadcast_to(_is_bad(mask, ... if whole else rows), pixels.shape)] = np.nan
        return pixels


def _is_bad(mask: ImageHeader, rows: Any) -> npt.NDArray[np.bool_]:
    values = np.asarray(mask.hdu.section[rows])
    if mask.kind == MASK:
        bits = _bad_bits(mask)
        return np.asarray((values.astype(np.int64) & bits) != 0 if bits else values != 0)
    return ~(values > 0)  # NaN too


def _bad_bits(mask: ImageHeader) -> int:
    """Return the bits of bad pixels, 0 if the header numbers none."""
    return sum(1 << int(mask.hdu.header[key]) for bit in BAD_BITS if (key := f"MP_{bit}") in mask.hdu.header)


def with_masks(images: Sequence[ImageHeader], others: Sequence[ImageHeader], reading: Reading) -> list[Plane]:
    """Find the masks and weights of images among other images, and note what is used and left out."""
    masks: list[list[ImageHeader]] = [[] for _ in images]
    for kind, rule in RULES.items():
        found = [header for header in others if header.kind == kind]
        owners = [_owner(header, images) for header in found]
        if None in owners and len(found) == len(images):
            owners = list(range(len(found)))
        used = []
        for header, owner in zip(found, owners, strict=True):
            if owner is None or not _fits(header, images[owner]):
                reading.left_out.append(f"{header.name}, {header.kind_word}: no image of its shape belongs to it")
            else:
                masks[owner].append(header)
                used.append(header)
        if used:
            values = f"has {', '.join(BAD_BITS)}" if _bad_bits(used[0]) and kind == MASK else f"is {rule}"
            reading.used.append(f"pixels are NaN where {_words(used)} {values}")
    if unused := [header for header in others if header.kind == OTHER]:
        reading.left_out.append(f"{_words(unused)}: no image of the sky")
    return [Plane(image, tuple(several)) for image, several in zip(images, masks, strict=True)]


def _fits(mask: ImageHeader, image: ImageHeader) -> bool:
    return bool(mask.hdu.shape in (image.hdu.shape, image.hdu.shape[-2:]))


def _owner(mask: ImageHeader, images: Sequence[ImageHeader]) -> int | None:
    """Return the number of the image that a mask belongs to: the only one, or one of its name, band or version."""
    if len(images) == 1:
        return 0
    for key in (_name, lambda header: header.filter, lambda header: header.hdu.header.get("EXTVER")):
        keys = [key(image) for image in images]
        if key(mask) and keys.count(key(mask)) == 1:
            return keys.index(key(mask))
    return None


def _name(header: ImageHeader) -> str:
    """Return the name of an extension without the words that say what it is."""
    words = WORDS.split(header.hdu.name.upper())
    return "_".join(word for word in words if word not in KINDS and word not in ("IMAGE", "SCI", "DATA"))


def _words(headers: Sequence[ImageHeader]) -> str:
    return ", ".join(dict.fromkeys(header.kind_word for header in headers))
