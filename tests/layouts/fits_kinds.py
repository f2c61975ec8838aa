"""FITS: weights, masks, errors, PSFs and catalogues beside the images, which are neither galaxies nor bands."""

from functools import partial
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from tests.layouts.fits_files import Layout, hdu_of, row
from tests.layouts.galaxies import BANDS, IMAGES, PLANES, N

# A corner without light, and a column of pixels.
BAD = np.zeros(PLANES.shape, bool)  # (n, bands, 64, 64)
BAD[:, 1, 2:9, 50:60] = BAD[:, 3, :, 5] = True
MASKED = np.where(np.moveaxis(BAD, 1, -1), np.nan, IMAGES).astype(np.float32)

WEIGHTS, MASKS = ("IVAR", "INVVAR", "WEIGHT", "WHT"), ("MASK", "MSK", "BPM", "DQ")
OTHERS = ("PSF", "MODEL", "ERR", "ERROR", "VAR", "VARIANCE", "SKY")
KINDS = (*WEIGHTS, *MASKS, *OTHERS)
KEYWORDS = ("IMAGETYP", "EXTTYPE", "OBSTYPE")
HSC = {"MP_BAD": 0, "MP_SAT": 1, "MP_INTRP": 2, "MP_DETECTED": 5, "MP_NO_DATA": 8}


def plane_of(kind: str, bad: np.ndarray, band: int = 0) -> np.ndarray:
    """Return pixels of a kind, in which the bad ones have the value of bad ones."""
    if kind in WEIGHTS:
        return np.where(bad, 0, 400).astype(np.float32)
    if kind in MASKS:
        return bad.astype(np.int32) * 4
    return np.full(bad.shape, 0.03 + 0.01 * band, np.float32)


def beside(kind: str, keyword: str = "EXTNAME", galaxies: int = N) -> list[Any]:
    """Return an HDU of a kind for each galaxy."""
    return [hdu_of(plane_of(kind, bad), {keyword: kind}) for bad in BAD[:galaxies]]


def each_band(kind: str, name: str) -> list[Any]:
    """Return an HDU of a kind for each band of a galaxy, named by a template."""
    return [
        hdu_of(plane_of(kind, BAD[0, band], band), {"EXTNAME": name.format(kind=kind, band=BANDS[band])})
        for band in range(5)
    ]


def by_keyword(kind: str) -> list[Any]:
    """Return an HDU of a kind for each band of a galaxy, with the headers that images may have too."""
    planes = [plane_of(kind.upper(), bad) for bad in BAD[0]]
    return [hdu_of(plane, {"IMAGETYP": kind, "FILTER": band}) for plane, band in zip(planes, BANDS, strict=True)]


def outcome(kind: str) -> dict[str, Any]:
    """Return what is expected of images beside which a kind lies."""
    if kind in (*WEIGHTS, *MASKS):
        return {"images": MASKED, "said": {"used": rf"{kind}|mask|weight"}}
    return {"said": {"left_out": kind}}


def hsc_masks(name: str) -> list[Any]:
    """Return masks of HSC in which all pixels are detected, and the bad ones have the bit of a name."""
    bits = np.where(BAD, 2 ** HSC[name], 0) | 2 ** HSC["MP_DETECTED"]
    cards = {"EXTNAME": "MASK", **{f"HIERARCH {key}": bit for key, bit in HSC.items()}}
    return [hdu_of(plane.astype(np.int32), cards) for plane in bits]


def interleaved(kind: str) -> list[Any]:
    """Return an image and a plane of a kind for each galaxy in turn, without the first image."""
    described = {"BANDS": BANDS, "BUNIT": "nanomaggy"}
    pairs = [(hdu_of(p, described), other) for p, other in zip(PLANES[1:], beside(kind)[1:], strict=True)]
    return [beside(kind)[0], *(hdu for pair in pairs for hdu in pair)]


def only(*kinds: str) -> Layout:
    def write(path: Any) -> None:
        fits.HDUList([fits.PrimaryHDU(), *(hdu for kind in kinds for hdu in beside(kind, galaxies=1))]).writeto(path)

    return Layout(write, refused=kinds)


def legacy(path: Any) -> None:
    """Write what the viewer of the Legacy Surveys returns with `&invvar`."""
    header = {"SURVEY": "SDSS", "BANDS": BANDS, **{f"BAND{number}": band for number, band in enumerate(BANDS)}}
    header |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.5, "CRPIX2": 32.5, "CRVAL1": 150.1}
    header |= {"CRVAL2": 2.1, "CD1_1": -0.00011, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.00011}
    image = hdu_of(PLANES[0], header | {"IMAGETYP": "image"}, fits.PrimaryHDU)
    fits.HDUList([image, hdu_of(plane_of("IVAR", BAD[0]), header | {"IMAGETYP": "invvar"})]).writeto(path)


CATALOGUE = fits.table_to_hdu(Table({"x": [1.0, 2.0], "flux": [3.0, 4.0]}))
CATALOGUE.name = "CATALOG"
LAYOUTS: dict[str, Layout] = {
    "legacy fits-cutout with invvar": Layout(legacy, n=1, images=MASKED),
    "catalogue": row("cubes", more=lambda: [CATALOGUE], said={"left_out": "CATALOG"}),
    "catalogue beside planes": row("planes", more=lambda: [CATALOGUE], said={"left_out": "CATALOG"}),
    "spectrum": row(
        "cubes", more=lambda: [hdu_of(np.ones(3800, np.float32), {"EXTNAME": "COADD"})], said={"left_out": "COADD"}
    ),
    "PSF of another size": row(
        "cubes", more=lambda: [hdu_of(np.ones((5, 25, 25)), {"EXTNAME": "PSF"})], said={"left_out": "PSF"}
    ),
    "mask for all bands": row(
        "cubes",
        more=lambda: [hdu_of(bad[1].astype(np.uint8), {"EXTNAME": "MASK"}) for bad in BAD],
        images=np.where(BAD[:, 1, ..., np.newaxis], np.nan, IMAGES),
    ),
    "weight without bad pixels": row("cubes", more=lambda: [hdu_of(np.ones((5, 64, 64)), {"EXTNAME": "WHT"})] * 4),
    "only weights": only("IVAR"),
    "only a mask": only("MASK"),
    "only PSF and MODEL": only("PSF", "MODEL"),
}
for kind in KINDS:
    LAYOUTS[f"{kind} of each galaxy"] = row("cubes", more=partial(beside, kind), **outcome(kind))
    LAYOUTS[f"{kind} of each band"] = row("planes", more=partial(each_band, kind, "{kind}_{band}"), **outcome(kind))
for number, kind in enumerate(KINDS):
    keyword, name = KEYWORDS[number % 3], ("{band}_{kind}", "{kind}-{band}", "{band}.{kind}")[number % 3]
    LAYOUTS[f"{kind} by {keyword}"] = row("cubes", more=partial(beside, kind.lower(), keyword), **outcome(kind))
    LAYOUTS[f"{kind} as {name}"] = row("planes", more=partial(each_band, kind, name), **outcome(kind))
for name, is_bad in {name: name in ("MP_BAD", "MP_SAT", "MP_NO_DATA") for name in HSC}.items():
    LAYOUTS[f"HSC {name}"] = row("cubes", more=partial(hsc_masks, name), images=MASKED if is_bad else IMAGES)
for kind in ("IVAR", "MASK", "MODEL"):
    LAYOUTS[f"{kind} first"] = row("cubes", pixels=PLANES[:1], more=partial(interleaved, kind), n=N, **outcome(kind))
for kind in ("ivar", "mask", "model", "psf"):
    more = partial(by_keyword, kind)
    LAYOUTS[f"{kind} by keyword beside planes"] = row("planes", more=more, **outcome(kind.upper()))
