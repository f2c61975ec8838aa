"""Units of fluxes, magnitudes, angles and redshifts, as files spell them.

Case counts: mJy is milli, MJy is mega. Another case is accepted where it has one meaning: njy and JY, but not mjy.
Products of units, such as erg/s/cm2/Hz, need astropy.
"""

import math
import re
from collections.abc import Mapping

NANOMAGGIES_PER_JANSKY = 1e6 / 3.631  # AB: magnitude 0 is 3631 Jy, and 1e9 nanomaggies

PREFIXES = {
    "": 1.0,
    **dict.fromkeys(("n", "nano"), 1e-9),
    **dict.fromkeys(("u", "µ", "μ", "micro"), 1e-6),  # both signs for micro
    **dict.fromkeys(("m", "milli"), 1e-3),
    **dict.fromkeys(("k", "kilo"), 1e3),
    **dict.fromkeys(("M", "mega"), 1e6),
}
FLUXES = {
    **dict.fromkeys(("Jy", "jansky", "janskys"), NANOMAGGIES_PER_JANSKY),
    **dict.fromkeys(("maggy", "maggies", "mgy"), 1e9),
}
NANOMAGGIES = {prefix + name: factor * value for prefix, factor in PREFIXES.items() for name, value in FLUXES.items()}
DEGREES = {
    **dict.fromkeys(("deg", "degree", "degrees", "°"), 1.0),
    **dict.fromkeys(("rad", "radian", "radians"), 57.29577951308232),
    **dict.fromkeys(("h", "hr", "hour", "hours", "hourangle"), 15.0),
    **dict.fromkeys(("arcmin", "arcminute", "arcminutes"), 1 / 60),
    **dict.fromkeys(("arcsec", "arcsecond", "arcseconds"), 1 / 3600),
}
MAGNITUDES = {
    **dict.fromkeys(("mag", "mags", "magnitude", "magnitudes", "mag(AB)", "ABmag", "AB mag", "mag AB"), 1.0),
    **dict.fromkeys(("mmag", "millimag", "mmag(AB)"), 1e-3),
}
REDSHIFTS = dict.fromkeys(("1", "-", "--", "none", "dimensionless", "unitless", "redshift", "z"), 1.0)

PER_PIXEL = re.compile(r"\s*(/\s*|per\s+)pix(els?)?$|[\s*.]+pix(el)?\s*(\*\*|\^)?\(?-1\)?$", re.IGNORECASE)
POWER_OF_TEN = r"10(?:(?:\*\*|\^)\(?([+-]?\d{1,2})\)?|([+-]\d{1,2}))"
SCALED = re.compile(POWER_OF_TEN + r"\s*[*.]?\s*(\D.*)|((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)\s*[*.]?\s*(\D.*)")

MAX_LENGTH = 200  # characters of a unit: the time to read it grows faster


def nanomaggies_per(unit: str) -> float | None:
    """Return the nanomaggies in a unit of flux density, on the AB scale; None if the unit is "" or unknown."""
    if len(unit) > MAX_LENGTH:
        return None
    unit = PER_PIXEL.sub("", unit.strip())
    factor = _factor(unit, NANOMAGGIES)
    return _by_astropy(unit) if factor is None and unit else factor


def degrees_per(unit: str) -> float | None:
    """Return the degrees in a unit of angle; h is 15 degrees. None if the unit is "" or unknown."""
    return _factor(unit, DEGREES)


def magnitudes_per(unit: str) -> float | None:
    """Return the magnitudes in a unit such as mmag, AB where it names a system; None if the unit is "" or unknown."""
    return _factor(unit, MAGNITUDES)


def redshifts_per(unit: str) -> float | None:
    """Return 1 for a spelling of "no unit"; None if the unit is "" or another, such as km/s."""
    return _factor(unit, REDSHIFTS)


def _factor(unit: str, names: Mapping[str, float]) -> float | None:
    """Return the value of a unit by its name, which may have a factor before it, as in "1e-9 Jy" and "10**-9 Jy"."""
    unit = unit.strip()
    if unit in names:
        return names[unit]
    values = {value for name, value in names.items() if name.lower() == unit.lower()}
    if len(values) == 1:
        return values.pop()
    if (scaled := SCALED.fullmatch(unit)) is None:
        return None
    power, short_power, name, number, other_name = scaled.groups()
    value = _factor(name or other_name, names)
    factor = float(number or f"1e{power or short_power}")
    return factor * value if factor and value else None


def _by_astropy(unit: str) -> float | None:
    try:
        from astropy.units import Unit, UnitBase
    except ModuleNotFoundError:
        return None
    numerator, *denominators = unit.split("/")
    if len(denominators) > 1:  # astropy reads a/b/c as a/(b/c)
        unit = f"{numerator}/({' '.join(denominators)})"
    parsed = Unit(unit, parse_strict="silent")
    if not isinstance(parsed, UnitBase) or not parsed.is_equivalent("Jy"):  # mag(AB) is no UnitBase
        return None
    value = float(parsed.to("Jy")) * NANOMAGGIES_PER_JANSKY
    return value if 0 < value < math.inf else None
