"""FITS: types of numbers, scaled and blank integers, and compression, as astropy and CFITSIO write them."""

import bz2
import gzip
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from tests.layouts.fits_files import Layout, hdu_of, row, save, wcs
from tests.layouts.galaxies import BANDS, IMAGES, PLANES, factor_of

POSITIVE = np.clip(PLANES, 0, None)
BLANKS = np.zeros(PLANES.shape, bool)
BLANKS[:, 2, 3:6, 40:60] = True
MASKED = np.where(np.moveaxis(BLANKS, 1, -1), np.nan, IMAGES).astype(np.float32)
COUNTS = factor_of(31.0)  # 2,500 for one nanomaggy
ZERO = {"MAGZERO": 31.0}


def as_type(dtype: str, pixels: np.ndarray = PLANES) -> list:
    """Return images of nanomaggies, or of whole counts if the type is one of integers."""
    if np.dtype(dtype).kind == "f":
        return [hdu_of(image.astype(dtype), {"BUNIT": "nanomaggy"}) for image in pixels]
    return [hdu_of(np.rint(image * COUNTS).astype(dtype), ZERO) for image in pixels]


def as_scaled(bits: str, *, blank: bool = False, **cards: str) -> list:
    """Return images of integers with BSCALE and BZERO."""
    step, lowest = (5e-4 if bits == "int16" else 1e-7), -np.iinfo(bits).max - 1
    hdus = []
    for image, bad in zip(PLANES, BLANKS, strict=True):
        values = np.rint((image - 3.0) / step)
        hdu = fits.ImageHDU(np.where(bad & blank, lowest, values).astype(bits), do_not_scale_image_data=True)
        hdu.header.update({"BSCALE": step, "BZERO": 3.0, **({"BLANK": lowest} if blank else {}), **cards})
        hdus.append(hdu)
    return hdus


def extensions(make: Callable[[], list]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        hdus = make()
        for galaxy, hdu in enumerate(hdus):
            hdu.header.update({"BUNIT": "nanomaggy"} if "MAGZERO" not in hdu.header else {})
            hdu.header.update({"BANDS": BANDS, **wcs(galaxy, 0)})
        save(path, *hdus)

    return write


def packed(write: Callable[[Path], object], pack: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a writer that compresses the file as a whole."""

    def write_packed(path: Path) -> None:
        plain = path.with_name("plain.fits")
        write(plain)
        path.write_bytes(pack(plain.read_bytes()))
        plain.unlink()

    return write_packed


def by_cfitsio(path: Path, dtype: str = "f4", **options: object) -> None:
    """Write an extension for each galaxy with fitsio."""
    import fitsio

    with fitsio.FITS(path, "rw", clobber=True) as file:
        file.write(None)
        for galaxy, image in enumerate(PLANES):
            pixels = image.astype(dtype) if dtype[0] == "f" else np.rint(image * COUNTS).astype(dtype)
            unit = {"BUNIT": "nanomaggy"} if dtype[0] == "f" else ZERO
            file.write(pixels, header={"BANDS": BANDS, **wcs(galaxy, 0), **unit}, **options)


PLAIN = {
    "float32": Layout(extensions(partial(as_type, "f4"))),
    "float64": Layout(extensions(partial(as_type, "f8"))),
    "int16": Layout(extensions(partial(as_type, "i2"))),
    "int32": Layout(extensions(partial(as_type, "i4"))),
    "int64": Layout(extensions(partial(as_type, "i8"))),
    "uint16": Layout(extensions(partial(as_type, "u2", POSITIVE)), images=np.clip(IMAGES, 0, None)),
    "uint32": Layout(extensions(partial(as_type, "u4", POSITIVE)), images=np.clip(IMAGES, 0, None)),
    "int16 with BSCALE": Layout(extensions(partial(as_scaled, "int16"))),
    "int32 with BSCALE": Layout(extensions(partial(as_scaled, "int32"))),
    "int16 with BLANK": Layout(extensions(partial(as_scaled, "int16", blank=True)), images=MASKED),
    "int32 with BLANK": Layout(extensions(partial(as_scaled, "int32", blank=True)), images=MASKED),
    "NaN": row("cubes", pixels=np.where(BLANKS, np.nan, PLANES).astype(np.float32), images=MASKED),
    "NaN, planes": row("planes", pixels=np.where(BLANKS, np.nan, PLANES).astype(np.float32), images=MASKED),
}
LAYOUTS: dict[str, Layout] = dict(PLAIN)
WHOLE = np.clip(PLANES * 20, 0, 255).astype(np.uint8)
LAYOUTS["whole numbers without a unit"] = Layout(
    lambda path: save(path, *(hdu_of(image, {"BANDS": BANDS, **wcs(0, 0)}) for image in WHOLE)), refused=["BITPIX"]
)
for name in ("float32", "float64", "uint16", "int16 with BSCALE", "int16 with BLANK"):
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        LAYOUTS[name + suffix] = replace(PLAIN[name], write=packed(PLAIN[name].write, pack), file=f"mine.fits{suffix}")
for shape in ("cube", "cubes", "planes"):
    for kind, level in (("RICE_1", 16.0), ("GZIP_1", 0.0), ("GZIP_2", 0.0), ("HCOMPRESS_1", 16.0)):
        tiles = {"tile_shape": (*(1,) * {"cube": 2, "cubes": 1, "planes": 0}[shape], 64, 64)}
        make = partial(fits.CompImageHDU, compression_type=kind, quantize_level=level, **tiles)
        LAYOUTS[f"{kind} of astropy, {shape}"] = row(shape, make=make, file="mine.fits.fz")
OPTIONS = {
    "RICE": {"compress": "RICE", "qlevel": 16.0},
    "RICE with dithering": {"compress": "RICE", "qlevel": 16.0, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 1},
    "GZIP": {"compress": "GZIP", "qlevel": 0.0},
    "GZIP_2": {"compress": "GZIP_2", "qlevel": 0.0},
    "HCOMPRESS": {"compress": "HCOMPRESS", "qlevel": 16.0, "tile_dims": (1, 64, 64)},
    "RICE of int32": {"dtype": "i4", "compress": "RICE"},
    "RICE of int16": {"dtype": "i2", "compress": "RICE"},
    "no compression": {},
}
for name, options in OPTIONS.items():
    file = "mine.fits.fz" if options else "mine.fits"
    LAYOUTS[f"{name} of CFITSIO"] = Layout(partial(by_cfitsio, **options), file=file)
LAYOUTS["fpack in a file named .fits"] = Layout(partial(by_cfitsio, compress="RICE", qlevel=16.0))
