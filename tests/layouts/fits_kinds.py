"""FITS: weights, masks, errors, PSFs and catalogues beside the images, which are neither galaxies nor bands."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from tests.layouts.fits_files import Layout, hdu_of, row, save, wcs
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


def beside(kind: str, keyword: str = "EXTNAME") -> list[Any]:
    """Return an HDU of a kind for each galaxy."""
    return [hdu_of(plane_of(kind.upper(), bad), {keyword: kind}) for bad in BAD]


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
    """Return a plane of a kind for the first galaxy, and an image and such a plane for each other one."""
    described = {"BANDS": BANDS, "BUNIT": "nanomaggy"}
    first, *others = beside(kind)
    pairs = [(hdu_of(pixels, described), other) for pixels, other in zip(PLANES[1:], others, strict=True)]
    return [first, *(hdu for pair in pairs for hdu in pair)]


def only(*kinds: str) -> Layout:
    return Layout(lambda path: save(path, *(beside(kind)[0] for kind in kinds)), refused=kinds)


def legacy(path: Path) -> None:
    """Write what the viewer of the Legacy Surveys returns with `&invvar`."""
    header = {"SURVEY": "SDSS", "BANDS": BANDS, **{f"BAND{n}": band for n, band in enumerate(BANDS)}, **wcs(0, 0)}
    image = hdu_of(PLANES[0], header | {"IMAGETYP": "image"}, fits.PrimaryHDU)
    save(path, image, hdu_of(plane_of("IVAR", BAD[0]), header | {"IMAGETYP": "invvar"}))


def named(name: str, pixels: np.ndarray) -> Callable[[], list[Any]]:
    return lambda: [hdu_of(pixels, {"EXTNAME": name})]


def catalogue() -> list[Any]:
    return [fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.ones(9))], name="CATALOG")]


FLAGS = [hdu_of(bad[1].astype(np.uint8), {"EXTNAME": "MASK"}) for bad in BAD]
LAYOUTS: dict[str, Layout] = {
    "legacy fits-cutout with invvar": Layout(legacy, n=1, images=MASKED),
    "catalogue": row("cubes", more=catalogue, said={"left_out": "CATALOG"}),
    "catalogue beside planes": row("planes", more=catalogue, said={"left_out": "CATALOG"}),
    "spectrum": row("cubes", more=named("COADD", np.ones(3800)), said={"left_out": "COADD"}),
    "PSF of 25 pixels": row("cubes", more=named("PSF", np.ones((5, 25, 25))), said={"left_out": "PSF"}),
    "mask for all bands": row("cubes", more=lambda: FLAGS, images=np.where(BAD[:, 1, ..., None], np.nan, IMAGES)),
    "weight without bad pixels": row("cubes", more=lambda: named("WHT", np.ones((5, 64, 64)))() * N),
    "only weights": only("IVAR"),
    "only a mask": only("MASK"),
    "only PSF and MODEL": only("PSF", "MODEL"),
}
for number, kind in enumerate(KINDS):
    LAYOUTS[f"{kind} of each galaxy"] = row("cubes", more=partial(beside, kind), **outcome(kind))
    LAYOUTS[f"{kind} of each band"] = row("planes", more=partial(each_band, kind, "{kind}_{band}"), **outcome(kind))
    keyword, name = KEYWORDS[number % 3], ("{band}_{kind}", "{kind}-{band}", "{band}.{kind}")[number % 3]
    LAYOUTS[f"{kind} by {keyword}"] = row("cubes", more=partial(beside, kind.lower(), keyword), **outcome(kind))
    LAYOUTS[f"{kind} as {name}"] = row("planes", more=partial(each_band, kind, name), **outcome(kind))
for name, is_bad in {name: name in ("MP_BAD", "MP_SAT", "MP_NO_DATA") for name in HSC}.items():
    LAYOUTS[f"HSC {name}"] = row("cubes", more=partial(hsc_masks, name), images=MASKED if is_bad else IMAGES)
for kind in ("IVAR", "MASK", "MODEL"):
    LAYOUTS[f"{kind} after each image"] = row(
        "cubes", pixels=PLANES[:1], more=partial(interleaved, kind), n=N, **outcome(kind)
    )
for kind in ("ivar", "mask", "model", "psf"):
    more = partial(by_keyword, kind)
    LAYOUTS[f"{kind} by keyword beside planes"] = row("planes", more=more, **outcome(kind.upper()))
