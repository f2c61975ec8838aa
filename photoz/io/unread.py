"""Names that may describe images in words that the readers do not know.

Where a file does not say something, the readers assume it, but not if one of these names may say otherwise.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset

# Keywords, attributes and columns in lower case, by what they may say, and what to do about them.
NAMES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "a unit or AB zero point": (
        re.compile(
            r"^(b|flux|phot|pix(el)?|data|image)?_?units?$|zpt|zpab|abzp|magzp|zero_?p(oi|t|$)|mag_?zero|fluxmag0|"
            r"(^|[^a-z]|f)zp($|[^a-z])|photflam|photfnu|photmjsr|softbias|^gain$|^bitpix$"
        ),
        "name a unit BUNIT in FITS files and unit in others, and the AB magnitude of a pixel with the value 1 MAGZERO "
        "or zero_point, or give --zero-point",
    ),
    "the pixel scale": (
        re.compile(
            r"pix(el)?_?sc|pix_?(res|size)|pl(ate|t)_?sc|instscal|^p?scale$|secp+ix|arcsec_?p|^cd\d_\d|^cdelt\d|d\d+scal"
        ),
        "name the arcseconds per pixel PIXSCALE in FITS files, pixel_scale in others",
    ),
    "the bands": (
        re.compile(r"^band|^filt|bandpass|channel|^c(type|name)3$|^plane_?\d"),
        "name them BANDS in FITS files, bands in others, or give --bands",
    ),
}
UNIT, SCALE, BANDS = NAMES

MAX_NAME = 256  # characters; in a .npz file a name may have 65,535


def find_unread(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names that may say a property, by property, with values that are short."""
    values = {name: value for name, value in values.items() if len(name) <= MAX_NAME}
    found = {
        what: [_text(name, value) for name, value in values.items() if pattern.search(name.lower()) and _says(value)]
        for what, (pattern, _) in NAMES.items()
    }
    return {what: names for what, names in found.items() if names}


def _says(value: Any) -> bool:
    """Return whether a value is more than the default of a keyword."""
    return np.ndim(value) > 0 or (str(value).strip().lower() not in ("", "0", "0.0", "1", "1.0", "band", "filter"))


def _text(name: str, value: Any) -> str:
    return name if np.ndim(value) else f"{name} = {str(value)[:40]}"


def unread_error(unread: Mapping[str, list[str]], what: str) -> InvalidDataset:
    """Return the error that a file may say a property that would be assumed."""
    return InvalidDataset(f"no name that is known gives {what}, but {', '.join(unread[what])} may: {NAMES[what][1]}")
