"""FITS tables: a column of images, or one for each band, with units of their own, beside other columns and tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from tests.layouts.fits_files import Layout, save
from tests.layouts.fits_kinds import BAD, MASKED
from tests.layouts.fits_units import UNITS
from tests.layouts.galaxies import BANDS, DEC, EBV, IDS, IMAGES, PLANES, RA, SCALE, factor_of

HEADER = {"BANDS": BANDS, "PIXSCALE": SCALE}
IDENTIFIER = fits.Column("OBJID", "K", array=IDS)
VECTORS = {"RA": RA, "DEC": DEC, "EBV": EBV}
OTHERS = [IDENTIFIER, *(fits.Column(name, "D", array=values) for name, values in VECTORS.items())]
KNOWN = {"object_id": IDS, "ra": RA, "dec": DEC, "ebv": EBV}
SCALED = {"TSCAL1": 5e-4, "TZERO1": 3.0}
VARIED = ("uJy", "nJy", "nanomaggy", "mJy", "nJy")
SILENT = ("nJy", "nJy", None, "nJy", "nJy")


def table_of(
    columns: Callable[[], Sequence[fits.Column]], more: Sequence[Any] = (), header: Any = HEADER, **expected: Any
) -> Layout:
    def write(path: Path) -> None:
        hdu = fits.BinTableHDU.from_columns([*columns(), *OTHERS], name="CUTOUTS")
        hdu.header.update(header)
        save(path, *more, hdu) if more else save(path, hdu)

    return Layout(write, **({"columns": KNOWN} | expected))


def image(pixels: np.ndarray, code: str = "E", name: str = "IMAGE", unit: str | None = "nanomaggy", **options: Any):
    """Return a function that makes one column of images of any axes."""
    sides = str(pixels.shape[:0:-1]) if options.pop("dim", True) else None
    size = int(np.prod(pixels.shape[1:]))
    return lambda: [fits.Column(name, f"{size}{code}", unit=unit, dim=sides, array=pixels, **options)]


def each_band(name: str, units: Sequence[str | None] = ("nanomaggy",) * 5, order: str = BANDS, flat: bool = False):
    """Return a function that makes a column for each band, in units of their own."""

    def columns() -> list[fits.Column]:
        made = []
        for band, unit in zip(order, units, strict=True):
            pixels = (PLANES[:, BANDS.index(band)] * np.float64(UNITS[unit or "nJy"])).astype(np.float32)
            options = {} if flat else {"dim": "(64, 64)"}
            values = pixels.reshape(len(pixels), -1) if flat else pixels
            made.append(fits.Column(name.format(band), "4096E", unit=unit, array=values, **options))
        return made

    return columns


COUNTS = np.rint(PLANES * factor_of(30.0)).astype(np.int32)
SCALED_PIXELS = np.rint((PLANES - 3.0) / 5e-4)
STAMPS = fits.Column("IVAR", "20480E", dim="(64, 64, 5)", array=np.ones_like(PLANES))
PLAIN = fits.Column("IMAGE", "20480E", dim="(64, 64, 5)", unit="nanomaggy", array=PLANES)
SMALL = fits.Column("PSF", "625E", dim="(25, 25)", array=np.ones((4, 25, 25)))
CATALOGUE = fits.BinTableHDU.from_columns([fits.Column("X", "E", array=np.ones(9))], name="PHOTOMETRY")
LAYOUTS: dict[str, Layout] = {
    "bands first": table_of(image(PLANES)),
    "bands last": table_of(image(IMAGES)),
    "float64": table_of(image(PLANES.astype("f8"), "D")),
    "int32 counts": table_of(image(COUNTS, "J", unit="adu"), header=HEADER | {"MAGZERO": 30.0}),
    "int16 counts": table_of(image(COUNTS.astype(np.int16), "I", unit=None), header=HEADER | {"MAGZERO": 30.0}),
    "scaled int16": table_of(image(SCALED_PIXELS.astype(np.int16), "I"), header=HEADER | SCALED),
    "blank int16 pixels, scaled": table_of(
        image(np.where(BAD, -32768, SCALED_PIXELS).astype(np.int16), "I"),
        header=HEADER | SCALED | {"TNULL1": -32768},
        images=MASKED,
    ),
    "blank int32 counts": table_of(
        image(np.where(BAD, -99999, COUNTS), "J", unit="adu", null=-99999),
        header=HEADER | {"MAGZERO": 30.0},
        images=MASKED,
    ),
    "a zero point in each row": table_of(
        lambda: [*image(COUNTS, "J", unit=None)(), fits.Column("ZEROPOINT", "D", array=[30.0] * 4)],
        refused=["ZEROPOINT"],
    ),
    "a pixel scale in each row": table_of(
        lambda: [PLAIN, fits.Column("PIXSCALE", "D", array=[0.2] * 4)], header={"BANDS": BANDS}, refused=["PIXSCALE"]
    ),
    "vector without TDIM": table_of(
        image(PLANES.reshape(4, -1), dim=False), refused=["IMAGE", "axes|axis|TDIM|shape"], or_right=True
    ),
    "unknown unit": table_of(image(PLANES, unit="K"), refused=["IMAGE", r"\bK\b"]),
    "counts without a zero point": table_of(image(PLANES, unit="count"), refused=["IMAGE", "count", "zero.point"]),
    "wrong scale": table_of(image(PLANES), header=HEADER | {"PIXSCALE": 0.262}, refused=[r"0\.262"]),
    "another order": table_of(image(PLANES[:, ::-1]), header=HEADER | {"BANDS": "zirgu"}),
    "a catalogue before it": table_of(image(PLANES), [CATALOGUE], said={"left_out": "PHOTOMETRY"}),
    "IMAGE and IVAR": table_of(lambda: [PLAIN, STAMPS], said={"left_out": "IVAR"}, refused=["IVAR"], or_right=True),
    "IMAGE and PSF": table_of(lambda: [PLAIN, SMALL], said={"left_out": "PSF"}),
    "no images": table_of(list, refused=["image"]),
}
for template in ("image_{}", "IMAGE_{}", "img_{}", "flux_{}", "cutout_{}", "{}", "{}_image"):
    LAYOUTS[f"columns {template}"] = table_of(each_band(template))
    LAYOUTS[f"columns {template} in units of their own"] = table_of(each_band(template, VARIED))
    LAYOUTS[f"columns {template}, one without a unit"] = table_of(
        each_band(template, SILENT), refused=[template.format("r"), "unit"]
    )
LAYOUTS |= {
    "columns of flat vectors": table_of(
        each_band("image_{}", flat=True), refused=["axes|axis|TDIM|shape|image"], or_right=True
    ),
    "columns in another order": table_of(each_band("image_{}", order="zgiur")),
    "columns of four bands": table_of(lambda: each_band("image_{}")()[1:], refused=[r"(\b|_)u\b"]),
    "columns in counts": table_of(each_band("image_{}", ("uJy",) * 5)),
}
