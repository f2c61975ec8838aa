"""Cutouts in FITS files.

Four layouts: a binary table with a column of images; an image of four axes, (n, ...); images of three axes, one for
each galaxy; and images of two axes, one for each band of a single galaxy. Any of them may be compressed (fpack, .gz,
.bz2). Bands, unit, position and pixel scale come from the headers, for `photoz.io.layout`.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.cutouts import Column, Cutouts, LazyImages, refusing
from photoz.io.formats import FITS

# Larger images are not cutouts. A compressed image of many cutouts is unpacked into memory.
MAX_CUTOUT_BYTES, MAX_UNPACKED_BYTES = 64 * 1024 * 1024, 2 * 1024**3

COMPRESSED = (".gz", ".bz2")  # as a whole

# Keywords for the zero point: the magnitude of a pixel with the value 1.
ZERO_POINTS = ("MAGZERO", "MAGZPT", "MAGZP", "ZEROPNT", "PHOTZP")

# Keywords of a single cutout that become columns.
OF_GALAXY = {"object_id": ("OBJID", "OBJECT"), "ebv": ("EBV", "E_BV"), "z_spec": ("Z_SPEC", "SPECZ", "REDSHIFT")}


@contextmanager
def open_fits(path: Path, content: BinaryIO | None = None) -> Iterator[Cutouts]:
    """Open a FITS file of cutouts, or its content in memory, which is then called `path`.

    Raises `InvalidDataset` if it cannot be used, `UnsupportedType` without astropy. astropy trusts files: open those
    of unknown origin in a process with limits.
    """
    fits = load_astropy()
    memmap = content is None and path.suffix.lower() not in COMPRESSED
    with content or path.open("rb") as stream:  # astropy leaves a damaged file open
        with refusing(f"{path} is not a readable FITS file"):
            hdus = fits.open(stream, memmap=memmap, lazy_load_hdus=True)
        with hdus:
            yield _from_hdus(hdus, path, fits)


def load_astropy() -> ModuleType:
    """Import `astropy.io.fits` and everything else that `open_fits` needs; raises `UnsupportedType` without astropy."""
    FITS.load("astropy.wcs")
    return FITS.load("astropy.io.fits")


def _from_hdus(hdus: Any, path: Path, fits: ModuleType) -> Cutouts:
    with refusing(f"{path} cannot be read"), warnings.catch_warnings():
        warnings.simplefilter("error", fits.verify.VerifyWarning)
        warnings.filterwarnings("error", message=".*truncated.*")
        images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) >= 2]
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        for hdu in images:
            _check_size(hdu, path)
        return _of_images(images, hdus[0].header, path) if images else _of_tables(tables, path)


def _check_size(hdu: Any, path: Path) -> None:
    n, *cutout = hdu.shape if len(hdu.shape) == 4 else (1, *hdu.shape)
    size = math.prod(cutout) * abs(int(hdu.header["BITPIX"])) // 8
    if size > MAX_CUTOUT_BYTES:
        raise InvalidDataset(
            f"{hdu.name or 'an image'} in {path} has the shape {hdu.shape}, which is no set of cutouts"
        )
    if path.suffix.lower() in COMPRESSED or type(hdu).__name__ == "CompImageHDU":
        _check_unpacked(n * size, path)


def _check_unpacked(size: int, path: Path) -> None:
    if size > MAX_UNPACKED_BYTES:
        raise InvalidDataset(
            f"{path} unpacks into {size:,} bytes, expected at most {MAX_UNPACKED_BYTES:,}: unpack it first"
        )


def _of_images(images: Sequence[Any], primary: Any, path: Path) -> Cutouts:
    axes = {len(hdu.shape) for hdu in images}
    shapes = {hdu.shape for hdu in images}
    if len(axes) > 1 or len(shapes) > 1 or (axes == {4} and len(images) > 1) or max(axes) > 4:
        listed = ", ".join(f"{hdu.name or 'PRIMARY'} {hdu.shape}" for hdu in images[:6])
        raise InvalidDataset(
            f"expected one image of four axes, or images of one shape with three or two, in {path}; got {listed}"
        )
    first = images[0].header
    match axes.pop():
        case 4:
            return _described(images[0].data, {}, _bands(first), images[0], path)
        case 3:
            stacked = LazyImages(
                lambda number, rows: _pixels(images[number])[np.newaxis][rows],
                np.arange(1, len(images) + 1),
                images[0].shape,
            )
            return _described(stacked, _columns(images, {}), _bands(first), images[0], path)
        case _:
            bands = tuple(_band(hdu) for hdu in images)
            if "" in bands or len(set(bands)) < len(bands):
                raise InvalidDataset(
                    f"expected EXTNAME, FILTER or BAND to name the band of each image in {path}; got {', '.join(bands)}"
                )
            single = LazyImages(
                lambda _, rows: np.stack([_pixels(hdu) for hdu in images], axis=-1)[np.newaxis][rows],
                np.array([1]),
                (*images[0].shape, len(images)),
            )
            return _described(single, _columns(images[:1], primary), bands, images[0], path)


def _pixels(hdu: Any) -> npt.NDArray[Any]:
    """Read an image without keeping it in memory."""
    pixels = np.array(hdu.data)
    del hdu.data
    return pixels


def _columns(images: Sequence[Any], primary: Any) -> dict[str, Column]:
    """Return columns, (n,) each, from the headers of n single cutouts, or else from a primary header."""
    values: dict[str, list[Any]] = {}
    for name, keywords in OF_GALAXY.items():
        keyword = next((keyword for keyword in keywords if all(keyword in hdu.header for hdu in images)), None)
        if keyword:
            values[name] = [hdu.header[keyword] for hdu in images]
        elif keyword := next((keyword for keyword in keywords if keyword in primary), None):
            values[name] = [primary[keyword]]
    named = all(hdu.name and hdu.name != "PRIMARY" for hdu in images)
    if len(images) > 1 and named and "object_id" not in values:
        values["object_id"] = [hdu.name for hdu in images]
    centres = [_centre(hdu) for hdu in images]
    if all(centre is not None for centre in centres):
        values["ra"], values["dec"] = ([centre[axis] for centre in centres if centre] for axis in (0, 1))
    columns = {name: np.array(column) for name, column in values.items()}
    if "object_id" in columns:
        columns["object_id"] = columns["object_id"].astype(np.str_)
    return columns


def _celestial(hdu: Any) -> Any:
    """Return the world coordinates of an image, or None."""
    if not str(hdu.header.get("CTYPE1", "")).startswith(("RA", "DEC")):
        return None
    from astropy.wcs import WCS, FITSFixedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(hdu.header, naxis=2)


def _centre(hdu: Any) -> tuple[float, float] | None:
    """Return right ascension and declination of the centre in degrees, if the header has them."""
    if (wcs := _celestial(hdu)) is None:
        return None
    ra, dec = wcs.pixel_to_world_values((hdu.shape[-1] - 1) / 2, (hdu.shape[-2] - 1) / 2)
    return float(ra), float(dec)


def _pixel_scale(hdu: Any) -> float | None:
    """Return the width of a pixel in arcsec, if the header has it."""
    if (wcs := _celestial(hdu)) is None:
        return None
    from astropy.wcs.utils import proj_plane_pixel_scales

    return float(np.mean(proj_plane_pixel_scales(wcs)) * 3600)


def _bands(header: Any) -> tuple[str, ...]:
    """Return the names of the bands in the order of their axis, () if the header has none."""
    if "BAND0" in header:
        numbered = (f"BAND{number}" for number in range(100))
        return tuple(str(header[key]).strip() for key in numbered if key in header)
    text = str(header.get("BANDS", header.get("FILTERS", ""))).strip()
    return tuple(part.strip() for part in text.split(",")) if "," in text else tuple(text)


def _band(hdu: Any) -> str:
    """Return the band of an image of two axes, "" if its header has none."""
    return str(hdu.header.get("FILTER", hdu.header.get("BAND", "" if hdu.name == "PRIMARY" else hdu.name))).strip()


def _described(
    images: Any, columns: dict[str, Column], bands: tuple[str, ...], hdu: Any, path: Path, unit: str = ""
) -> Cutouts:
    zero_points = [float(hdu.header[keyword]) for keyword in ZERO_POINTS if keyword in hdu.header]
    return Cutouts(
        images,
        columns,
        provenance=str(hdu.header.get("ORIGIN", path.name)),
        bands=bands,
        unit=unit or str(hdu.header.get("BUNIT", "")).strip(),
        zero_point=zero_points[0] if zero_points else None,
        pixel_scale=_pixel_scale(hdu) if hdu.is_image else None,
    )


def _of_tables(tables: Sequence[Any], path: Path) -> Cutouts:
    for hdu in tables:
        if path.suffix.lower() in COMPRESSED:
            _check_unpacked(int(hdu.header["NAXIS1"]) * int(hdu.header["NAXIS2"]) + int(hdu.header["PCOUNT"]), path)
        fields = hdu.columns.dtype.fields or {}
        image_names = [name for name, (dtype, *_) in fields.items() if len(dtype.shape) == 3]
        if len(image_names) > 1:
            raise InvalidDataset(f"expected one column of images in {path}, got {', '.join(image_names)}")
        for image_name in image_names:
            rows = hdu.data
            columns = {name.lower(): native(rows[name]) for name in fields if name != image_name}
            unit = str(hdu.columns[image_name].unit or "")
            return _described(rows[image_name], columns, _bands(hdu.header), hdu, path, unit)
    raise InvalidDataset(f"{path} holds no images: neither an image of two axes or more nor a column of images")


def native(values: npt.NDArray[Any]) -> Column:
    """Copy a column in the byte order of this machine; text becomes numpy strings."""
    array = np.array(values)
    return array.astype(np.str_) if array.dtype.kind in "SU" else array.astype(array.dtype.newbyteorder("="))
