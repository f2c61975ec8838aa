"""Bands: names as surveys write them, in any order, missing, doubled, looking like others, and more than needed."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.layouts import stores
from tests.layouts.fits_files import Layout, row
from tests.layouts.galaxies import BANDS, PLANES

# Central wavelength and width in the FILTER of DECam's images.
DECAM = {"u": "c0006 3500.0 1000.0", "g": "c0001 4720.0 1520.0", "r": "c0002 6415.0 1480.0"}
DECAM |= {"i": "c0003 7835.0 1470.0", "z": "c0004 9260.0 1520.0"}
MEGACAM = {"u": "u.MP9301", "g": "g.MP9401", "r": "r.MP9601", "i": "i.MP9701", "z": "z.MP9801"}
NAMES: dict[str, Callable[[str], str]] = {
    "u": str,
    "U": str.upper,
    "SDSS_u": "SDSS_{}".format,
    "sdss_u": "sdss_{}".format,
    "SDSS u": "SDSS {}".format,
    "HSC-U": lambda band: f"HSC-{band.upper()}",
    "DES_U": lambda band: f"DES_{band.upper()}",
    "u.MP9301": MEGACAM.__getitem__,
    "u_57": "{}_57".format,
    "u'": "{}'".format,
    "up": "{}p".format,
    "u-band": "{}-band".format,
    "u band": "{} band".format,
    "u_sdss": "{}_sdss".format,
    "u.00000": "{}.00000".format,
    "DECam u DR1": lambda band: f"DECam {band} DR1 {DECAM[band]}",
    "u DECam SDSS": lambda band: f"{band} DECam SDSS {DECAM[band]}",
}


def planes(names: Sequence[str], pixels: np.ndarray = PLANES, **expected: object) -> Layout:
    """Return the row of an HDU for each band, all called SCI, with the names in FILTER."""
    return row("planes", pixels=pixels, names=[{"EXTNAME": "SCI", "FILTER": name} for name in names], **expected)


def extnames(names: Sequence[str], pixels: np.ndarray = PLANES, **expected: object) -> Layout:
    return row("planes", pixels=pixels, names=list(names), **expected)


def cube(names: Sequence[str], pixels: np.ndarray = PLANES, **expected: object) -> Layout:
    return row("cube", pixels=pixels, names=cards_of(names), **expected)


def cards_of(names: Sequence[str]) -> dict[str, str]:
    return {f"BAND{number}": name for number, name in enumerate(names)}


def hdf5(names: Sequence[str], pixels: np.ndarray = PLANES, **expected: object) -> Layout:
    return stores.row("h5", pixels=pixels, about={**stores.DESCRIBED, "bands": list(names)}, **expected)


def npz(names: Sequence[str], pixels: np.ndarray = PLANES, **expected: object) -> Layout:
    about = {**stores.DESCRIBED, "bands": np.array(names)}
    return stores.row("npz", pixels=np.moveaxis(pixels, 1, -1), about=about, **expected)


KINDS = {"FILTER": planes, "BANDn": cube, "h5": hdf5, "npz": npz}
LAYOUTS: dict[str, Layout] = {}
for number, (scheme, name_of) in enumerate(NAMES.items()):
    for kind, make in list(KINDS.items())[number % 2 :: 2]:  # FITS and one of the others
        LAYOUTS[f"{scheme} in {kind}"] = make([name_of(band) for band in BANDS])
for scheme in ("SDSS_u", "u_57", "u.MP9301", "HSC-U"):
    LAYOUTS[f"{scheme} as EXTNAME"] = extnames([NAMES[scheme](band) for band in BANDS])

# In place of the band at a position: the missing band is named.
ALIKE = {"W1": 0, "NUV": 0, "J": 3, "Ks": 4, "H": 4, "Y": 4, "F814W": 3, "B": 1, "Halpha": 2, "white": 1}
SWAPPED = [2, 0, 4, 1, 3]
SEVEN = np.concatenate([PLANES, PLANES[:, :2]], axis=1)
for kind, make in {**KINDS, "EXTNAME": extnames}.items():
    for name, place in list(ALIKE.items())[:: 1 if kind == "FILTER" else 3]:
        missing = rf"missing.*\b{BANDS[place]}\b|\b{BANDS[place]}\b.*missing"
        LAYOUTS[f"{name} in {kind}"] = make([*BANDS[:place], name, *BANDS[place + 1 :]], refused=[missing])
    LAYOUTS[f"another order in {kind}"] = make([BANDS[place] for place in SWAPPED], PLANES[:, SWAPPED])
    LAYOUTS[f"SDSS names in another order in {kind}"] = make(
        [f"SDSS_{BANDS[place]}" for place in SWAPPED], PLANES[:, SWAPPED]
    )
    LAYOUTS[f"r twice in {kind}"] = make("ugrrz", refused=[r"\br\b"])
    LAYOUTS[f"u missing in {kind}"] = make("griz", PLANES[:, 1:], refused=[r"\bu\b"])
    LAYOUTS[f"two of seven not needed in {kind}"] = make([*BANDS, "Y", "W1"], SEVEN, said={"left_out": "Y.*W1|W1.*Y"})
    LAYOUTS[f"r of two surveys in {kind}"] = make(["u", "SDSS_g", "SDSS_r", "DECam_r", "z"], refused=["SDSS_r|DECam_r"])
    LAYOUTS[f"all of two surveys in {kind}"] = make(
        [*(f"SDSS_{band}" for band in BANDS), "HSC-G", "HSC-R"], SEVEN, refused=["HSC-[GR]"]
    )


def numbered(keyword: str) -> dict[str, str]:
    return {f"{keyword}{number}": band for number, band in enumerate(BANDS[::-1], start=1)}


LAYOUTS |= {
    "letters in another order in BANDS": row("cube", pixels=PLANES[:, ::-1], names=BANDS[::-1]),
    "names in another order in BANDS": row("cubes", pixels=PLANES[:, ::-1], names="z,i,r,g,u"),
    "names with spaces in BANDS": row("cubes", pixels=PLANES[:, ::-1], names={"BANDS": " ".join(BANDS[::-1])}),
    "names with semicolons in BANDS": row("cubes", names={"BANDS": "; ".join(BANDS)}),
    "BANDS and BANDn disagree": row(
        "cubes", names={"BANDS": BANDS[::-1], **cards_of(BANDS)}, refused=["BAND0", "BANDS"]
    ),
    "EXTNAME and FILTER disagree": row(
        "planes",
        names=[{"EXTNAME": b, "FILTER": f} for b, f in zip(BANDS, "grizu", strict=True)],
        refused=["band", "u"],
    ),
    "Johnson and Cousins": planes(["U Johnson", "G", "R Cousins", "I Cousins", "Z"], refused=["Cousins"]),
    "a narrow band": planes(["u", "g", "NB656 r", "i", "z"], refused=["missing.*r"]),
    "FILTERS": row("cube", names={"FILTERS": BANDS}),
    "no names of bands": row("cube", names={}, said={"assumed": "u, ?g, ?r, ?i, ?z"}),
    **{
        f"{name}1 to {name}5": row("cube", names=numbered(name), refused=[f"{name}1 = z"])
        for name in ("FILTER", "PLANE")
    },
    "wavelengths in CTYPE3": row("cubes", names={"CTYPE3": "WAVE"}, refused=["CTYPE3 = WAVE"]),
    "no names of planes": row("planes", names=[{}] * 5, refused=["band", "FILTER|EXTNAME|BAND"]),
    "planes all called SCI": row("planes", names=["SCI"] * 5, refused=["band", "SCI"]),
    "BAND before EXTNAME": row("planes", names=[{"EXTNAME": f"IM{n}", "BAND": b} for n, b in enumerate(BANDS)]),
    "no names of bands in npz": stores.row("npz", about={"unit": "nanomaggy"}, said={"assumed": "u, ?g, ?r, ?i, ?z"}),
}
