"""Cutouts in FITS files.

Four layouts: a binary table with a column of images; an image of four axes, (n, ...); images of three axes, one for
each galaxy; and images of two axes, one for each band of a single galaxy. Any of them may be packed (fpack, .gz, .bz2).
What the headers say of bands, unit, position and pixel scale is kept; `photoz.io.layout` makes use of it.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, reason
from photoz.io.cutouts import Column, Cutouts, check_lengths
from photoz.io.formats import FITS

# Larger images are not cutouts. A packed image of many cutouts is unpacked into memory.
MAX_CUTOUT_BYTES, MAX_PACKED_BYTES = 64 * 1024 * 1024, 2 * 1024**3

COMPRESSED = (".gz", ".bz2")  # as a whole

# Keywords of a zero point: the magnitude of a pixel with the value 1.
ZERO_POINTS = ("MAGZERO", "MAGZPT", "MAGZP", "ZEROPNT", "PHOTZP")

# Keywords of a single cutout that become columns.
OF_GALAXY = {"object_id": ("OBJID", "OBJECT"), "ebv": ("EBV", "E_BV"), "z_spec": ("Z_SPEC", "SPECZ", "REDSHIFT")}


@contextmanager
def open_fits(path: Path, content: BinaryIO | None = None) -> Iterator[Cutouts]:
    """Open a FITS file of cutouts, or its content in memory, which is then called `path`.

    Raises `InvalidDataset` if it cannot be used, `UnsupportedType` without astropy. astropy trusts files: those of
    unknown origin belong into a process with limits.
    """
    fits = load_astropy()
    memmap = content is None and path.suffix.lower() not in COMPRESSED
    with content or path.open("rb") as stream:  # astropy leaves a damaged file open
        try:
            hdus = fits.open(stream, memmap=memmap, lazy_load_hdus=True)
        except Exception as error:  # OSError, ValueError, TypeError, EOFError, zlib.error
            raise InvalidDataset(f"{path} is not a readable FITS file: {reason(error)}") from error
        with hdus:
            yield _from_hdus(hdus, path, fits)


def load_astropy() -> ModuleType:
    """Import `astropy.io.fits` and everything else that `open_fits` needs; raises `UnsupportedType` without astropy."""
    FITS.load("astropy.wcs")
    return FITS.load("astropy.io.fits")


def _from_hdus(hdus: Any, path: Path, fits: ModuleType) -> Cutouts:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", fits.verify.VerifyWarning)
            warnings.filterwarnings("error", message=".*truncated.*")
            images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) >= 2]
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
            for hdu in images:
                _check_size(hdu, path)
            return _of_images(images, hdus[0].header, path) if images else _of_tables(tables, path)
    except InvalidDataset:
        raise
    except Exception as error:  # as above, and KeyError, IndexError, warnings
        raise InvalidDataset(f"{path} cannot be read: {reason(error)}") from error


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
    if size > MAX_PACKED_BYTES:
        raise InvalidDataset(
            f"{path} unpacks into {size:,} bytes, expected at most {MAX_PACKED_BYTES:,}: unpack it first"
        )


def _of_images(images: Sequence[Any], primary: Any, path: Path) -> Cutouts:
    axes = {len(hdu.shape) for hdu in images}
    shapes = {hdu.shape for hdu in images}
    if len(axes) > 1 or len(shapes) > 1 or (axes == {4} and len(images) > 1) or max(axes) > 4:
        found = ", ".join(f"{hdu.name or 'PRIMARY'} {hdu.shape}" for hdu in images[:6])
        raise InvalidDataset(
            f"expected one image of four axes, or images of one shape with three or two, in {path}; got {found}"
        )
    first = images[0].header
    match axes.pop():
        case 4:
            return _described(images[0].data, {}, _bands(first), images[0], path)
        case 3:
            return _described(_Stacked(images), _columns(images, {}), _bands(first), images[0], path)
        case _:
            bands = tuple(_band(hdu) for hdu in images)
            if "" in bands or len(set(bands)) < len(bands):
                raise InvalidDataset(
                    f"expected EXTNAME, FILTER or BAND to name the band of each image in {path}; got {', '.join(bands)}"
                )
            return _described(_Bands(images), _columns(images[:1], primary), bands, images[0], path)


@dataclass(frozen=True)
class _Stacked:
    """Images of three axes, one for each cutout, which are read when they are sliced."""

    hdus: Sequence[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.hdus), *self.hdus[0].shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        chosen = self.hdus[key]
        if not isinstance(chosen, Sequence):
            return _pixels(chosen)
        return np.stack([_pixels(hdu) for hdu in chosen]) if chosen else np.empty((0, *self.shape[1:]), np.float32)


@dataclass(frozen=True)
class _Bands:
    """Images of two axes, the bands of one cutout."""

    hdus: Sequence[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, *self.hdus[0].shape, len(self.hdus))

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        return np.asarray(np.stack([_pixels(hdu) for hdu in self.hdus], axis=-1)[np.newaxis][key])


def _pixels(hdu: Any) -> npt.NDArray[Any]:
    """Read an image, and do not keep it."""
    pixels = np.array(hdu.data)
    del hdu.data
    return pixels


def _columns(images: Sequence[Any], primary: Any) -> dict[str, Column]:
    """Return what the headers of single cutouts, or else a primary one, say of their galaxies, (n,) each."""
    found: dict[str, list[Any]] = {}
    for name, keywords in OF_GALAXY.items():
        keyword = next((keyword for keyword in keywords if all(keyword in hdu.header for hdu in images)), None)
        if keyword:
            found[name] = [hdu.header[keyword] for hdu in images]
        elif keyword := next((keyword for keyword in keywords if keyword in primary), None):
            found[name] = [primary[keyword]]
    named = all(hdu.name and hdu.name != "PRIMARY" for hdu in images)
    if len(images) > 1 and named and "object_id" not in found:
        found["object_id"] = [hdu.name for hdu in images]
    centres = [_centre(hdu) for hdu in images]
    if all(centre is not None for centre in centres):
        found["ra"], found["dec"] = ([centre[axis] for centre in centres if centre] for axis in (0, 1))
    columns = {name: np.array(values) for name, values in found.items()}
    if "object_id" in columns:
        columns["object_id"] = columns["object_id"].astype(np.str_)
    return columns


def _celestial(hdu: Any) -> Any:
    """Return the world coordinates of an image, None if it has none."""
    if not str(hdu.header.get("CTYPE1", "")).startswith(("RA", "DEC")):
        return None
    from astropy.wcs import WCS, FITSFixedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(hdu.header, naxis=2)


def _centre(hdu: Any) -> tuple[float, float] | None:
    """Return right ascension and declination of the centre, degrees, if the header says them."""
    if (wcs := _celestial(hdu)) is None:
        return None
    ra, dec = wcs.pixel_to_world_values((hdu.shape[-1] - 1) / 2, (hdu.shape[-2] - 1) / 2)
    return float(ra), float(dec)


def _pixel_scale(hdu: Any) -> float | None:
    """Return the width of a pixel in arcsec, if the header says it."""
    if (wcs := _celestial(hdu)) is None:
        return None
    from astropy.wcs.utils import proj_plane_pixel_scales

    return float(np.mean(proj_plane_pixel_scales(wcs)) * 3600)


def _bands(header: Any) -> tuple[str, ...]:
    """Return the names of the bands in the order of their axis, () if the header does not say them."""
    if "BAND0" in header:
        numbered = (f"BAND{number}" for number in range(100))
        return tuple(str(header[key]).strip() for key in numbered if key in header)
    text = str(header.get("BANDS", header.get("FILTERS", ""))).strip()
    return tuple(part.strip() for part in text.split(",")) if "," in text else tuple(text)


def _band(hdu: Any) -> str:
    """Return the band of an image of two axes, "" if its header does not say it."""
    return str(hdu.header.get("FILTER", hdu.header.get("BAND", "" if hdu.name == "PRIMARY" else hdu.name))).strip()


def _described(
    images: Any, columns: dict[str, Column], bands: tuple[str, ...], hdu: Any, path: Path, unit: str = ""
) -> Cutouts:
    zero_points = [float(hdu.header[keyword]) for keyword in ZERO_POINTS if keyword in hdu.header]
    check_lengths(images.shape, columns)
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
        found = [name for name, (dtype, *_) in fields.items() if len(dtype.shape) == 3]
        if len(found) > 1:
            raise InvalidDataset(f"expected one column of images in {path}, got {', '.join(found)}")
        if found:
            rows = hdu.data
            columns = {name.lower(): _native(rows[name]) for name in fields if name != found[0]}
            unit = str(hdu.columns[found[0]].unit or "")
            return _described(rows[found[0]], columns, _bands(hdu.header), hdu, path, unit)
    raise InvalidDataset(f"{path} holds no images: neither an image of two axes or more nor a column of images")


def _native(values: npt.NDArray[Any]) -> Column:
    """Copy a column in the byte order of this machine; text becomes numpy strings."""
    array = np.array(values)
    return array.astype(np.str_) if array.dtype.kind in "SU" else array.astype(array.dtype.newbyteorder("="))
