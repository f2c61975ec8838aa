"""Positions as astronomers write them: in degrees, sexagesimal, or as the name of an object."""

import re
from urllib.parse import quote

from astropy.coordinates import SkyCoord
from astropy.coordinates.name_resolve import sesame_url

from photoz.errors import InvalidInput, reason
from photoz_survey.sky.session import ArchiveError, Session, quoted
from photoz_survey.sky.targets import Targets

DEGREES = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
SEXAGESIMAL = re.compile(r"[-+]?\d[\d:.hdms°'\"+\- ]*")

# The position in an answer of Sesame: https://cds.unistra.fr/cgi-bin/nph-sesame
FOUND, MAX_BYTES = re.compile(rb"^%J +(\d{1,3}\.?\d{0,20}) +([-+]?\d{1,5}\.?\d{0,20})", re.MULTILINE), 2**16

EXPECTED = "expected RA and Dec in degrees, sexagesimal RA in hours and Dec, or the name of an object"


def find_position(text: str, offline: bool = False) -> Targets:
    """Return the galaxy at a position, or with a name, for which Sesame is asked unless `offline`.

    Its identifier is the name, or RA and Dec in degrees. Raises `InvalidInput` if the text is neither, the name is
    not known or the position is not on the sky, and as `Session.request`.
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
    if is_name:
        return _find_name(text)
    try:
        at = SkyCoord(text, unit=("hourangle", "deg"))
    except ValueError as error:
        raise InvalidInput(f"{EXPECTED}, got {text!r}: {reason(error)}") from error
    return Targets.of(float(at.ra.deg), float(at.dec.deg))


def _find_name(name: str) -> Targets:
    """Ask Sesame, which asks SIMBAD, NED and VizieR; astropy would follow redirects to anywhere and read any length."""
    response = Session(max_bytes=MAX_BYTES).get(f"{sesame_url.get()[0]}SNV?{quote(name)}")
    if found := FOUND.search(response.content):
        try:
            return Targets.of(float(found[1]), float(found[2]), name)
        except InvalidInput as error:
            raise ArchiveError(f"Sesame's position of {name!r} is none: {error}") from error
    if response.ok and response.content.lstrip().startswith(b"#"):
        raise InvalidInput(f"{EXPECTED}, got {name!r}, which Sesame does not know")
    raise ArchiveError(f"Sesame cannot say where {name!r} is: {response.status_code}, {quoted(response.content)}")
