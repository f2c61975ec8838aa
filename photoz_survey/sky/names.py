"""Positions as astronomers write them: in degrees, sexagesimal, or as the name of an object."""

import re

from astropy.coordinates import SkyCoord, get_icrs_coordinates
from astropy.coordinates.name_resolve import NameResolveError

from photoz.errors import InvalidInput, reason
from photoz_survey.sky.session import Unreachable
from photoz_survey.sky.targets import Targets

DEGREES = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
SEXAGESIMAL = re.compile(r"[-+]?\d[\d:.hdms°'\"+\- ]*")

EXPECTED = "expected RA and Dec in degrees, sexagesimal RA in hours and Dec, or the name of an object"


def find_position(text: str, offline: bool = False) -> Targets:
    """Return the galaxy at a position, or with a name, for which astropy asks Sesame unless `offline`.

    Its identifier is the name, or RA and Dec in degrees. Raises `InvalidInput` if the text is neither, the name is
    not known or the position is not on the sky.
    """
    text = " ".join(text.replace(",", " ").split())
    numbers = text.split()
    if numbers and all(map(DEGREES.fullmatch, numbers)):
        if len(numbers) == 2:
            ra, dec = map(float, numbers)
            return Targets.of(ra, dec)
        if len(numbers) != 6:
            raise InvalidInput(f"{EXPECTED}, got {text!r}")
    is_name = not SEXAGESIMAL.fullmatch(text)
    if is_name and (offline or not text):
        raise InvalidInput(f"{EXPECTED}, got {text!r}; names are not looked up offline")
    try:
        at = get_icrs_coordinates(text) if is_name else SkyCoord(text, unit=("hourangle", "deg"))
    except NameResolveError as error:
        if "Unable to find" not in str(error):
            raise Unreachable(f"{text!r} was not looked up: {reason(error)}") from error
        raise InvalidInput(f"{EXPECTED}, got {text!r}, which Sesame does not know") from error
    except ValueError as error:
        raise InvalidInput(f"{EXPECTED}, got {text!r}: {reason(error)}") from error
    return Targets.of(float(at.ra.deg), float(at.dec.deg), text if is_name else None)
