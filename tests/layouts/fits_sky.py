"""FITS: pixel scales and positions, each way in which headers say them, and those that do not fit."""

from astropy.coordinates import FK4, FK5, SkyCoord

from tests.layouts.fits_files import NANOMAGGIES, Layout, frame, hdu_of, images, matrix, row, save, wcs
from tests.layouts.galaxies import BANDS, DEC, PLANES, RA, SCALE, N

STEP = SCALE / 3600  # degrees
ICRS = SkyCoord(RA, DEC, unit="deg")
CENTRES = {"ra": RA, "dec": DEC}


def cdelt(x: float = SCALE, y: float = SCALE) -> dict[str, float]:
    return {"CDELT1": -x / 3600, "CDELT2": y / 3600}


def galactic(galaxy: int, band: int) -> dict:
    at = (ICRS[galaxy].galactic.l.deg, ICRS[galaxy].galactic.b.deg)
    return frame(galaxy, "GLON-TAN", "GLAT-TAN", at=at) | matrix("CD", STEP, STEP)


def equatorial(system: object, **cards: object):
    def sky(galaxy: int, band: int) -> dict:
        place = ICRS[galaxy].transform_to(system)
        return frame(galaxy, at=(place.ra.deg, place.dec.deg)) | matrix("CD", STEP, STEP) | cards

    return sky


def at(**cards: float):
    """Return the sky of cards beside a position."""
    return lambda galaxy, band: frame(galaxy) | cards


def without_frame(**cards: float):
    return lambda galaxy, band: cards


def declination_first(galaxy: int, band: int) -> dict:
    at = (DEC[galaxy], RA[galaxy])
    return frame(galaxy, "DEC--TAN", "RA---TAN", at=at) | {"CD1_1": STEP, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -STEP}


ROTATED = {"CDELT1": -STEP, "CDELT2": STEP, "CROTA2": 30.0}
UNREAD = ("PIXELSCALE", "PLTSCALE", "SCALE", "INSTSCAL", "SECPPIX", "PIX_SCALE", "PIXRES", "ESO INS PIXSCALE")
SAME = {"x": STEP, "y": STEP}
# How the scale is said, and whether the position is said too.
SAID = {
    "CD": (at(**matrix("CD", **SAME)), True),
    "CD rotated by 30": (at(**matrix("CD", **SAME, angle=30)), True),
    "CD rotated by 90": (at(**matrix("CD", **SAME, angle=90)), True),
    "CD mirrored": (at(**matrix("CD", -STEP, STEP)), True),
    "CDELT": (at(**cdelt()), True),
    "CDELT and PC": (at(**cdelt(), **matrix("PC", -1, 1, 0) | {"PC1_1": 1.0}), True),
    "CDELT and PC rotated": (at(**cdelt(), **matrix("PC", -1, 1, 30)), True),
    "CDELT of 1 and PC": (at(CDELT1=1.0, CDELT2=1.0, **matrix("PC", **SAME)), True),
    "CDELT and CROTA2": (at(**ROTATED), True),
    "CDELT without CTYPE": (without_frame(**cdelt()), False),
    "PIXSCALE": (without_frame(PIXSCALE=SCALE), False),
    "PIXSCAL": (without_frame(PIXSCAL=SCALE), False),
    "SECPIX": (without_frame(SECPIX=SCALE), False),
    "SECPIX1, 2": (without_frame(SECPIX1=SCALE, SECPIX2=SCALE), False),
    "PIXSCAL1, 2": (without_frame(PIXSCAL1=SCALE, PIXSCAL2=SCALE), False),
    "galactic": (galactic, True),
    "1 % off": (at(**cdelt(0.4, 0.4)), True),
    "CD and PIXSCALE": (lambda *key: {**wcs(*key), "PIXSCALE": SCALE}, True),
    "declination first": (declination_first, True),
}
# Scales that do not fit, and what the refusal has to say.
WRONG = {
    "CD of 0.3": (at(**matrix("CD", 0.3 / 3600, 0.3 / 3600)), r"0\.3\b|0\.300"),
    "CDELT of 0.262": (at(**cdelt(0.262, 0.262)), r"0\.262"),
    "CDELT without CTYPE of 0.262": (without_frame(**cdelt(0.262, 0.262)), r"0\.262"),
    "PIXSCALE of 0.168": (without_frame(PIXSCALE=0.168), r"0\.168"),
    "SECPIX of 1": (without_frame(SECPIX=1.0), r"\b1\b"),
    "galactic of 0.2": (lambda *key: galactic(*key) | matrix("CD", 0.2 / 3600, 0.2 / 3600), r"0\.2"),
    "3 % off": (at(**cdelt(0.408, 0.408)), r"0\.408"),
    "0.300 x 0.492": (at(**cdelt(0.3, 0.492)), r"0\.3.*0\.492|0\.492.*0\.3"),
    "CD of 0.300 x 0.492, rotated": (at(**matrix("CD", 0.3 / 3600, 0.492 / 3600, 90)), r"0\.3|0\.492"),
    "PIXSCAL1 0.300, PIXSCAL2 0.492": (without_frame(PIXSCAL1=0.3, PIXSCAL2=0.492), r"0\.3|0\.492"),
    "CD of 0.2 without CTYPE": (without_frame(**matrix("CD", 0.2 / 3600, 0.2 / 3600)), "CD1_1"),
    "CDELT of LINEAR axes": (without_frame(CTYPE1="LINEAR", CTYPE2="LINEAR", CDELT1=0.2, CDELT2=0.2), "CDELT1 = 0.2"),
    **{f"{keyword} alone": (without_frame(**{f"HIERARCH {keyword}": 0.2}), rf"{keyword} = 0\.2") for keyword in UNREAD},
    "CD of 0.396, PIXSCALE of 0.262": (lambda *key: {**wcs(*key), "PIXSCALE": 0.262}, r"0\.262"),
}


def off_at(*place: int):
    """Return the sky whose scale is 0.30 arcsec in one image (galaxy, band)."""
    return lambda *key: frame(key[0]) | cdelt(*((0.3, 0.3) if key == place else (SCALE, SCALE)))


LAYOUTS: dict[str, Layout] = {}
for shape in ("cubes", "planes"):
    for name, (sky, positioned) in SAID.items():
        columns = CENTRES if positioned else {}
        LAYOUTS[f"{name} {shape}"] = row(shape, sky=sky, columns=columns)
    for name, (sky, found) in WRONG.items():
        LAYOUTS[f"{name} {shape}"] = row(shape, sky=sky, refused=[found, r"arcsec|scale"])
for band, letter in enumerate(BANDS):
    LAYOUTS[f"0.30 in {letter} alone"] = row("planes", sky=off_at(0, band), refused=[r"0\.3", rf"\b{letter}\b"])
for galaxy in range(N):
    number = rf"\b({galaxy + 1}|{galaxy + 2})\b"
    LAYOUTS[f"0.30 in HDU {galaxy}"] = row("cubes", sky=off_at(galaxy, 0), refused=[r"0\.3", number])
    LAYOUTS[f"0.30 in file {galaxy}"] = row("folder", sky=off_at(galaxy, 0), refused=[r"0\.3", f"galaxy-{galaxy}"])

# In the band r alone, the frame is that of another cutout.
APART = {
    "10 pixels off": {"CRPIX1": 42.5},
    "another galaxy": {"CRVAL1": RA[1], "CRVAL2": DEC[1]},
    "rotated": matrix("CD", STEP, STEP, 90),
    "mirrored": matrix("CD", -STEP, STEP),
}
for name, cards in APART.items():
    apart = lambda galaxy, band, cards=cards: {**wcs(galaxy, band), **(cards if band == 2 else {})}  # noqa: E731
    LAYOUTS[f"r {name}"] = row("planes", sky=apart, refused=[r"\br\b", "arcsec"])
LAYOUTS["r 0.2 pixels off"] = row("planes", sky=lambda *key: wcs(*key) | {"CRPIX1": 32.5 + 0.1 * (key[1] == 2)})

SYSTEMS = {
    "FK4 by RADESYS": (FK4(equinox="B1950"), {"RADESYS": "FK4", "EQUINOX": 1950.0}),
    "FK4 by RADECSYS": (FK4(equinox="B1950"), {"RADECSYS": "FK4", "EQUINOX": 1950.0}),
    "FK4 by EQUINOX": (FK4(equinox="B1950"), {"EQUINOX": 1950.0}),
    "FK5 of 2000": (FK5(equinox="J2000"), {"RADESYS": "FK5", "EQUINOX": 2000.0}),
    "FK5 of 1975": (FK5(equinox="J1975"), {"RADESYS": "FK5", "EQUINOX": 1975.0}),
    "ICRS": ("icrs", {"RADESYS": "ICRS"}),
}
for name, (system, cards) in SYSTEMS.items():
    LAYOUTS[name] = row("cubes", sky=equatorial(system, **cards), columns=CENTRES)

for shape in ("cube", "cubes", "planes", "folder"):
    LAYOUTS[f"no scale {shape}"] = row(shape, sky=without_frame(), said={"assumed": "arcsec"})
# A step of 1 without world coordinates counts pixels, not degrees.
for name, cards in {"CD": {"CD1_1": 1.0, "CD2_2": 1.0}, "CDELT": {"CDELT1": 1.0, "CDELT2": 1.0}}.items():
    LAYOUTS[f"{name} of 1 pixel"] = row(
        "cubes", sky=without_frame(**cards), said={"assumed": "arcsec"}, refused=[name], or_right=True
    )
for shape in ("cubes", "planes"):
    for keyword in ("PIXSCALE", "SECPIX"):
        primary = {keyword: SCALE}
        LAYOUTS[f"{keyword} of the primary header {shape}"] = row(shape, sky=without_frame(), primary=primary)
    LAYOUTS[f"wrong PIXSCALE of the primary header {shape}"] = row(
        shape, sky=without_frame(), primary={"PIXSCALE": 0.2}, refused=[r"0\.2"]
    )

BROKEN = {"PIXSCALE": 0.0, "CTYPE1": "RA---XYZ"}
for keyword, value in BROKEN.items():
    LAYOUTS[f"{keyword} of {value}"] = row(
        "cubes", sky=lambda *key, cards={keyword: value}: wcs(*key) | cards, refused=[keyword]
    )
LAYOUTS |= {
    "ecliptic": row(
        "cubes", sky=lambda *key: frame(key[0], "ELON-TAN", "ELAT-TAN") | matrix("CD", **SAME), absent=["ra"]
    ),
    "RA and DEC of 1950": row("cubes", sky=without_frame(RA=150.1, DEC=2.1, EQUINOX=1950.0), absent=["ra"]),
    "RA and DEC of integers": row("cubes", sky=without_frame(RA=150, DEC=2), columns={"ra": [150.0] * N}),
}

PRIMARY = images("planes", NANOMAGGIES, PLANES, without_frame(), BANDS)
DESCRIBED = {"BANDS": BANDS, "BUNIT": "nanomaggy", "PIXSCALE": SCALE}
KEYWORDS = [(pixels, DESCRIBED | {"RA": RA[n], "DEC": DEC[n]}) for n, pixels in enumerate(PLANES)]
LAYOUTS |= {
    "world coordinates of the primary header": Layout(
        lambda path: save(path, *(hdu_of(*part) for part in PRIMARY), primary=wcs(0, 0)), n=1, columns=CENTRES
    ),
    "positions in RA and DEC": Layout(lambda path: save(path, *(hdu_of(*part) for part in KEYWORDS)), columns=CENTRES),
}
