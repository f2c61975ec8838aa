"""FITS: units and zero points, of all images or each, missing, unknown and contradictory."""

import re

from tests.layouts.fits_files import SHAPES, Layout, row, same, varied, without
from tests.layouts.galaxies import JANSKY, factor_of

# Stored values per nanomaggy, by unit. MJy is mega, mJy is milli.
UNITS = {"nanomaggy": 1.0, "nanomaggies": 1.0, "nmgy": 1.0, "maggy": 1e-9, "Jy": JANSKY, "mJy": JANSKY * 1e3}
UNITS |= dict.fromkeys(("uJy", "microJy"), JANSKY * 1e6) | dict.fromkeys(("nJy", "1e-9 Jy", "10**-9 Jy"), JANSKY * 1e9)
UNITS |= {"MJy": JANSKY * 1e-6, "Jy/pixel": JANSKY, "nJy / pix": JANSKY * 1e9, "erg/s/cm2/Hz": JANSKY * 1e-23}
COUNTS = ("counts", "adu", "electron", "DN", "counts/s")
UNKNOWN = ("K", "mag", "mag/arcsec2", "furlong")
KEYWORDS = (
    "MAGZERO",
    "MAGZPT",
    "MAGZP",
    "ZEROPNT",
    "PHOTZP",
    "ZP",
    "ZPT",
    "SEXMGZPT",
    "ZEROPOINT",
    "ZEROPT",
    "ABMAGZP",
)
# Keywords that may say what pixels are worth in words that are not known.
UNREAD = {"ZP_AB": 25.0, "MAG_ZERO": 25.0, "CCDZPT": 25.0, "PHOTFLAM": 7e-20, "PHOTFNU": 1e-7, "PHOTMJSR": 1.5}
UNREAD |= {"SOFTBIAS": 1000, "GAIN": 4.0, "UNITS": "nJy", "FLUXUNIT": "uJy", "HIERARCH ESO QC MAGZPT": 25.0}
BY_GALAXY, BY_BAND = (25.0, 26.3, 27.0, 30.0), (30.0, 30.1, 30.25, 29.9, 29.8)
VALUES = {"cubes": BY_GALAXY, "folder": BY_GALAXY, "planes": BY_BAND}
MULTIPLIED = {"used": "multipl"}


def flux_of_zero(zero_point: float) -> float:
    """Return FLUXMAG0, the pixel value of magnitude 0."""
    return 10 ** (0.4 * zero_point)


def by_unit(*units: str) -> Layout:
    return varied("BUNIT", units, UNITS.__getitem__)


# Both statements are named.
CONTRADICTIONS = {
    "nanomaggy, MAGZERO 25": ({"BUNIT": "nanomaggy", "MAGZERO": 25.0}, ("nanomaggy", "MAGZERO|zero point", "25")),
    "uJy, MAGZERO 25": ({"BUNIT": "uJy", "MAGZERO": 25.0}, ("uJy", "MAGZERO|zero point", "25")),
    "MAGZERO, PHOTZP": ({"MAGZERO": 25.0, "PHOTZP": 25.4}, ("MAGZERO", "PHOTZP", r"25\.4")),
    "MAGZERO, FLUXMAG0": ({"MAGZERO": 25.0, "FLUXMAG0": 63095734448.0}, ("MAGZERO", "FLUXMAG0")),
    **{f"MAGZERO, {s}": ({"MAGZERO": 25.0, "MAGSYS": s}, ("MAGSYS", s)) for s in ("STMAG", "ST", "Johnson", "Gaia")},
    "MAGZERO, Vega": ({"MAGZERO": 25.0, "MAGSYS": "Vega"}, ("MAGSYS", "Vega")),
    "nanomaggy, VEGAMAG": ({"BUNIT": "nanomaggy", "MAGSYS": "VEGAMAG"}, ("MAGSYS", "VEGAMAG")),
    "MAGZERO, asinh": ({"BOFFSET": 0.1, "BSOFTEN": 0.2, "MAGZERO": 25.0}, ("BSOFTEN|BOFFSET", "asinh")),
}

LAYOUTS: dict[str, Layout] = {}
for shape in ("cubes", "planes", "table"):
    for unit, factor in UNITS.items():
        said = {} if factor == 1 else MULTIPLIED
        LAYOUTS[f"unit {unit}, {shape}"] = row(shape, same(factor, BUNIT=unit), said=said)
for shape in ("cubes", "planes", "folder"):
    for number, keyword in enumerate(KEYWORDS):
        state = varied(keyword, VALUES[shape], factor_of, **[{}, {"BUNIT": "counts"}, {"BUNIT": "adu"}][number % 3])
        LAYOUTS[f"zero point {keyword}, {shape}"] = row(shape, state, said=MULTIPLIED)
    state = varied("FLUXMAG0", [flux_of_zero(value) for value in VALUES[shape]], lambda flux: flux / 1e9)
    LAYOUTS[f"zero point FLUXMAG0, {shape}"] = row(shape, state, said=MULTIPLIED)
for shape in ("cube", "table"):
    for keyword in ("MAGZERO", "ZPT"):
        LAYOUTS[f"zero point {keyword}, {shape}"] = row(
            shape, same(factor_of(25.0), **{keyword: 25.0}), said=MULTIPLIED
        )
for shape in ("cube", "planes", "folder"):
    for name, (cards, refused) in CONTRADICTIONS.items():
        LAYOUTS[f"{name}, {shape}"] = row(shape, same(factor_of(25.0), **cards), refused=refused)
for shape in SHAPES:
    LAYOUTS[f"no unit, {shape}"] = row(shape, same(), said={"assumed": "nanomagg"})
for unit in UNKNOWN:
    word = rf"(?<!\w){re.escape(unit)}(?!\w)"
    LAYOUTS |= {f"unknown unit {unit}, {shape}": row(shape, same(BUNIT=unit), refused=[word]) for shape in SHAPES[:3]}
for unit in COUNTS:
    state, missing = varied("MAGZPT", BY_GALAXY, factor_of, BUNIT=unit), [re.escape(unit), "zero point"]
    LAYOUTS[f"{unit} with a zero point"] = row("cubes", state, said=MULTIPLIED)
    LAYOUTS[f"{unit} without a zero point"] = row("cubes", same(9.0, BUNIT=unit), refused=missing)

CONSISTENT = {
    "ZEROPT 0": (factor_of(0.0), {"ZEROPT": 0.0}),
    "nanomaggy, MAGZERO 22.5": (1.0, {"BUNIT": "nanomaggy", "MAGZERO": 22.5}),
    "uJy, MAGZERO 23.9": (UNITS["uJy"], {"BUNIT": "uJy", "MAGZERO": 23.9}),
    "nJy, ZP 31.4": (UNITS["nJy"], {"BUNIT": "nJy", "ZP": 31.4}),
    "Jy, PHOTZP 8.9": (UNITS["Jy"], {"BUNIT": "Jy", "PHOTZP": 8.9}),
    "MAGZERO, PHOTZP of one value": (factor_of(27.0), {"MAGZERO": 27.0, "PHOTZP": 27.0}),
    "MAGZERO, FLUXMAG0 of one value": (factor_of(27.0), {"MAGZERO": 27.0, "FLUXMAG0": 63095734448.0194}),
    "FPA.ZP 25 and EXPTIME 100": (factor_of(30.0), {"HIERARCH FPA.ZP": 25.0, "EXPTIME": 100.0}),
    "MAGSYS AB": (factor_of(25.0), {"MAGZERO": 25.0, "MAGSYS": "AB"}),
}
LAYOUTS |= {f"consistent {name}": row("cubes", same(factor, **cards)) for name, (factor, cards) in CONSISTENT.items()}

for keyword, value in UNREAD.items():
    LAYOUTS[f"{keyword} alone"] = row(
        "cubes", same(9.0, **{keyword: value}), refused=[keyword.removeprefix("HIERARCH "), "MAGZERO"]
    )
for value in (-999.0, -99.0, 99.0):
    LAYOUTS[f"zero point {value}"] = row("cubes", same(MAGZERO=value), refused=["MAGZERO", f"{value:g}"])
EXPOSURES = {"EXPTIME": 100.0, "FLXSCALE": 0.5}
for keyword, value in EXPOSURES.items():
    state = same(factor_of(25.0), MAGZERO=25.0, BUNIT="adu", **{keyword: value})
    LAYOUTS[f"counts, {keyword}"] = row("cubes", state, said={"assumed": f"{keyword} = {value}"})
LAYOUTS["counts, PHOTZPT"] = row("cubes", same(9.0, BUNIT="counts", PHOTZPT=25.0), refused=["counts", "PHOTZPT"])

MIXED_UNITS = by_unit("uJy", "nJy", "nanomaggy", "Jy", "nJy"), by_unit("nJy", "uJy", "nanomaggy", "Jy")
LAYOUTS |= {
    "units by band": row("planes", MIXED_UNITS[0]),
    "units by galaxy": row("cubes", MIXED_UNITS[1]),
    "units by file": row("folder", MIXED_UNITS[1]),
    "unit of the primary header": row("cubes", same(UNITS["nJy"]), primary={"BUNIT": "nJy"}),
    "unit of the primary header, planes": row("planes", same(UNITS["nJy"]), primary={"BUNIT": "nJy"}),
    "zero point of the primary header": row("cubes", same(factor_of(25.0)), primary={"MAGZERO": 25.0}),
    "zero point of the primary header, planes": row("planes", same(factor_of(25.0)), primary={"MAGZERO": 25.0}),
    "a zero point that is not inherited": row(
        "cubes", same(INHERIT=False, BUNIT="nanomaggy"), primary={"MAGZERO": 25.0}
    ),
    "own zero point before the primary's": row(
        "planes", varied("MAGZERO", BY_BAND, factor_of), primary={"MAGZERO": 25.0, "BUNIT": "counts"}
    ),
    "FLUXMAG0 of the primary header": row("planes", same(factor_of(27.0)), primary={"FLUXMAG0": 63095734448.0194}),
}
for place, name in enumerate("ugriz"):
    for keyword, values, factor in (("BUNIT", ["nJy"] * 5, UNITS.get), ("MAGZERO", BY_BAND, factor_of)):
        silent = without(varied(keyword, values, factor), (0, place))
        LAYOUTS[f"{name} without {keyword}"] = row("planes", silent, refused=[rf"\b{name}\b", "unit|zero point"])
for place in range(4):
    silent = without(varied("MAGZERO", BY_GALAXY, factor_of), (place, 0))
    word = rf"\b({place + 1}|{place + 2})\b"  # the number of the HDU, from 0 or 1
    LAYOUTS[f"galaxy {place} without MAGZERO"] = row("cubes", silent, refused=[word, "unit|zero point"])
    LAYOUTS[f"file {place} without MAGZERO"] = row("folder", silent, refused=[rf"galaxy-{place}\.fits"])
