"""Cutouts in FITS files.

The layouts: an image of four axes, (n, ...); images of three axes, one for each galaxy; images of two axes, one for
each band of a galaxy or for each galaxy and band; and a table with a column of images, or one for each band. Any of
them may be compressed (fpack, .gz, .bz2). Each image is described by its own header.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from photoz.errors import InvalidDataset, counted
from photoz.io.cutouts import Column, Cutouts, ImageSource, LazyImages, Reading, refusing
from photoz.io.fits_header import BANDS, MASK, OTHER, WEIGHT, ImageHeader
from photoz.io.fits_masks import Plane, with_masks
from photoz.io.fits_table import columns_of, image_table, pixel_units, read_images
from photoz.io.formats import FITS
from photoz.io.layout import same_scale
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.io.pixel_units import common_unit
from photoz.io.planes import arrange, check_positions

# Larger images are not cutouts. A compressed image of many cutouts is unpacked into memory.
MAX_CUTOUT_BYTES, MAX_UNPACKED_BYTES = 64 * 1024 * 1024, 2 * 1024**3

COMPRESSED = (".gz", ".bz2")  # as a whole

# Keywords of a single cutout that become columns.
OF_GALAXY = {
    "object_id": ("OBJID", "OBJECTID", "OBJ_ID", "TARGETID", "SOURCEID", "ID", "OBJECT"),
    "ebv": ("EBV", "E_BV"),
    "z_spec": ("Z_SPEC", "SPECZ", "REDSHIFT"),
}


@contextmanager
def open_fits(path: Path, options: ReadOptions = NO_OPTIONS, content: BinaryIO | None = None) -> Iterator[Cutouts]:
    """Open a FITS file of cutouts, or its content in memory, which is then called `path`.

    Raises `InvalidDataset` if it cannot be used, `UnsupportedType` without astropy. astropy trusts files: open those
    of unknown origin in a process with limits.
    """
    can_map = content is None and path.suffix.lower() not in COMPRESSED
    with ExitStack() as stack:
        stream = stack.enter_context(content or path.open("rb"))  # astropy leaves a damaged file open
        images, tables, reading = contents(stack.enter_context(opened(stream, path, False)), path, options)
        shapes = [header.hdu.shape for header in images if len(header.hdu.shape) > 1]
        if can_map and not shapes:  # of images, parts are read
            images, tables, reading = contents(stack.enter_context(opened(stream, path, True)), path, options)
        yield _from_images(images, tables, path, reading) if shapes else _from_tables(tables, path, reading, options)


def load_astropy() -> ModuleType:
    """Import `astropy.io.fits` and everything else that `open_fits` needs; raises `UnsupportedType` without astropy."""
    FITS.load("astropy.wcs")
    return FITS.load("astropy.io.fits")


@contextmanager
def opened(stream: BinaryIO, path: Path, memmap: bool) -> Iterator[Any]:
    """Open the HDUs of a stream; raises `InvalidDataset` if that is not possible."""
    stream.seek(0)
    with refusing(f"{path} is not a readable FITS file"):
        hdus = load_astropy().open(stream, memmap=memmap, lazy_load_hdus=True)
    with hdus:
        yield hdus


def contents(hdus: Any, path: Path, options: ReadOptions) -> tuple[list[ImageHeader], list[Any], Reading]:
    """Return the images and the tables that are read, and which others are left out."""
    fits = load_astropy()
    with refusing(f"{path} cannot be read"), warnings.catch_warnings():
        warnings.simplefilter("error", fits.verify.VerifyWarning)
        warnings.filterwarnings("error", message=".*truncated.*")
        headers = [ImageHeader(hdu, number, hdus[0].header, path) for number, hdu in enumerate(hdus)]
    images = [header for header in headers if header.hdu.is_image and header.hdu.shape]
    tables = [header for header in headers if isinstance(header.hdu, fits.BinTableHDU | fits.TableHDU)]
    if not options.hdu and not options.column:
        return images, [table.hdu for table in tables], Reading()
    chosen = _chosen(headers, options.hdu, path)
    used = [] if options.column else [header for header in chosen if header in images]
    all_masks = all(header.kind in (WEIGHT, MASK) for header in used)
    for header in used:
        if all_masks or header.kind == OTHER:
            header.kind = ""  # an image
    used_tables = [header for header in chosen if header in tables] or tables
    left_out = [header.name for header in images + tables if header not in used + used_tables]
    return used, [table.hdu for table in used_tables], Reading(left_out=left_out)


def _chosen(headers: Sequence[ImageHeader], names: Sequence[str], path: Path) -> list[ImageHeader]:
    """Return the HDUs of these names or numbers, in their order; raises `InvalidDataset` if one is not there."""
    chosen: list[ImageHeader] = []
    for name in names:
        found = [header for number, header in enumerate(headers) if name.upper() in (header.hdu.name, str(number))]
        if not found:
            raise InvalidDataset(f"{path} has no HDU {name}; it has {', '.join(header.name for header in headers)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def _from_images(headers: list[ImageHeader], tables: list[Any], path: Path, reading: Reading) -> Cutouts:
    with refusing(f"{path} cannot be read"):
        images = [header for header in headers if not header.kind and len(header.hdu.shape) > 1]
        if not images:
            listed = ", ".join(dict.fromkeys(header.kind_word or header.name for header in headers))
            raise InvalidDataset(f"{path} holds {listed}; expected images of the sky, or --hdu to choose one of these")
        for header in images:
            _check_size(header.hdu, path)
        reading.left_out.extend(f"{header.name}, of one axis" for header in headers if len(header.hdu.shape) == 1)
        planes = with_masks(
            images, [header for header in headers if header.kind and len(header.hdu.shape) > 1], reading
        )
        cutouts = _of_images(planes, path, reading)
        return _with_tables(cutouts, tables)


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


def _of_images(planes: list[Plane], path: Path, reading: Reading) -> Cutouts:
    headers = [plane.header for plane in planes]
    shapes = [header.hdu.shape for header in headers]
    n_axes = len(shapes[0])
    if len(set(shapes)) > 1 or (n_axes == 4 and len(planes) > 1) or n_axes > 4:
        listed = ", ".join(f"{header.name} {header.hdu.shape}" for header in headers[:6])
        raise InvalidDataset(
            f"expected one image of four axes, or images of one shape with three or two, in {path}; got {listed}: "
            "choose them by --hdu"
        )
    if n_axes == 4:
        images = LazyImages(lambda _, rows: planes[0].read(rows), np.array(shapes[0][:1]), shapes[0][1:])
        return described(images, {}, headers, headers[0].bands(), path, reading)
    if n_axes == 3:
        stacked = LazyImages(
            lambda number, rows: planes[number].read()[np.newaxis][rows], np.arange(1, len(planes) + 1), shapes[0]
        )
        bands = {header.bands(): header for header in headers}
        if len(bands) > 1:
            listed = "; ".join(f"{','.join(names) or 'none'} ({header.name})" for names, header in bands.items())
            raise InvalidDataset(f"expected the same bands for each galaxy in {path}, got {listed}")
        return described(stacked, _columns(headers), headers, headers[0].bands(), path, reading)
    return _of_bands(planes, path, reading)


def _of_bands(planes: list[Plane], path: Path, reading: Reading) -> Cutouts:
    """Return cutouts from images of one band each."""
    headers = [plane.header for plane in planes]
    filters = [header.filter for header in headers]
    if len(planes) == 1:
        galaxies, bands, numbers = [""], [filters[0] or headers[0].text(*BANDS)], [[0]]
    elif all(filters):
        names = [str(header.own(*OF_GALAXY["object_id"]) or header.hdu.name) for header in headers]
        versions = [f"{header.hdu.name}_{header.hdu.ver}" for header in headers]
        galaxies, bands, numbers = arrange(names if len(set(names)) > 1 else versions, filters, path)
    else:
        names = [header.filter or header.hdu.name.removeprefix("PRIMARY") for header in headers]
        galaxies, bands, numbers = arrange(names, [""] * len(headers), path)
    images = LazyImages(
        lambda number, rows: np.stack([planes[i].read() for i in numbers[number]], axis=-1)[np.newaxis][rows],
        np.arange(1, len(numbers) + 1),
        (*headers[0].hdu.shape, len(bands)),
    )
    columns = _columns([headers[first] for first, *_ in numbers])
    if len(galaxies) > 1 and "object_id" not in columns:
        columns["object_id"] = np.array(galaxies)
    flat = [headers[i] for row in numbers for i in row]
    cutouts = described(images, columns, flat, tuple(filter(None, bands)), path, reading)
    for row in numbers:
        check_positions([headers[i].positions() for i in row], [headers[i].name for i in row], path)
    return cutouts


def _columns(headers: Sequence[ImageHeader]) -> dict[str, Column]:
    """Return columns, (n,) each, from the headers of n galaxies."""
    values: dict[str, list[Any]] = {}
    for name, keywords in OF_GALAXY.items():
        given = [header.get(*keywords) if len(headers) == 1 else header.own(*keywords) for header in headers]
        if name != "object_id" and any(value is not None for value in given):
            given = [math.nan if value is None else value for value in given]
        if all(value is not None for value in given):
            values[name] = given
    if any(isinstance(value, float) for value in values.get("object_id", ())):
        return {name: np.array(column) for name, column in values.items()}  # such identifiers are refused
    names = [str(value) for value in values.pop("object_id", [header.hdu.name for header in headers])]
    if len(names) == 1 and headers[0].get(*OF_GALAXY["object_id"]) is None:
        names = []  # the name of an image is that of a galaxy if there are several
    if names and all(names) and len(set(names)) == len(names):
        values["object_id"] = names
    centres = [header.centre() for header in headers]
    if all(centre is not None for centre in centres):
        values["ra"], values["dec"] = ([centre[axis] for centre in centres if centre] for axis in (0, 1))
    return {name: np.array(column) for name, column in values.items()}


def described(
    images: ImageSource,
    columns: dict[str, Column],
    headers: Sequence[ImageHeader],
    bands: tuple[str, ...],
    path: Path,
    reading: Reading,
) -> Cutouts:
    """Describe images by the headers of n galaxies, or of their bands; raises as they and `common_unit`."""
    units = [header.pixel_unit() for header in headers]
    unit, factors = common_unit(units, [header.name for header in headers], path)
    if (note := headers[0].exposure()) and any(unit.zero_point is not None for unit in units):
        reading.assumed.append(note)
    scale = common_scale(headers, path)
    is_known = bands and scale and (factors is not None or unit.nanomaggies is not None)
    return Cutouts(
        images,
        columns,
        provenance=headers[0].text("ORIGIN") or path.name,
        name=headers[0].name,
        bands=bands,
        unit=unit.unit,
        zero_point=unit.zero_point,
        factors=None if factors is None else factors.reshape(images.shape[0], -1),
        pixel_scale=scale,
        reading=reading,
        unread={} if is_known else headers[0].unread(),
    )


def common_scale(headers: Sequence[ImageHeader], path: Path) -> float | None:
    """Return the pixel scale of all images in arcsec; raises `InvalidDataset` if they differ."""
    scales = [(scale, header) for header in headers if (scale := header.pixel_scale()) is not None]
    for scale, header in scales[1:]:
        if not same_scale(scale, scales[0][0]):
            first = f"{scales[0][0]:.4g} in {scales[0][1].name}"
            raise InvalidDataset(
                f"expected pixels of one scale in {path}, got {first} and {scale:.4g} arcsec in {header.name}"
            )
    return scales[0][0] if scales else None


def _with_tables(cutouts: Cutouts, tables: Sequence[Any]) -> Cutouts:
    """Add the columns of the only table that has a row for each cutout; other tables are left out."""
    reading, columns, units = cutouts.reading, dict(cutouts.columns), dict[str, str]()
    fitting = [table for table in tables if len(table.data) == len(cutouts) and len(cutouts) > 1]
    if len(fitting) == 1:
        of_table, units = columns_of(fitting[0], reading)
        columns = {**of_table, **columns}
        reading.used.append(f"the columns of {fitting[0].name or 'the table'}, which has a row for each cutout")
    if others := [table.name or "one without a name" for table in tables if fitting != [table]]:
        reading.left_out.append(f"{counted(len(others), 'table')}: {', '.join(others)}")
    return replace(cutouts, columns=columns, column_units=units)


def _from_tables(tables: list[Any], path: Path, reading: Reading, options: ReadOptions) -> Cutouts:
    """Return the cutouts in the columns of a table."""
    with refusing(f"{path} cannot be read"):
        for hdu in tables if path.suffix.lower() in COMPRESSED else ():
            _check_unpacked(int(hdu.header["NAXIS1"]) * int(hdu.header["NAXIS2"]) + int(hdu.header["PCOUNT"]), path)
        table, names, of_columns = image_table(tables, path, reading, options.column)
        header = ImageHeader(table, tables.index(table) + 1, table.header, path)
        bands = header.bands() if of_columns == [""] else tuple(of_columns)
        unit, factors = common_unit(pixel_units(table, names, header), names, path)
        columns, units = columns_of(table, reading, names)
        reading.left_out.extend(f"{other.name or 'a table'}, another table" for other in tables if other is not table)
        return Cutouts(
            read_images(table, names),
            columns,
            provenance=header.text("ORIGIN") or path.name,
            name=", ".join(names),
            bands=bands,
            unit=unit.unit,
            zero_point=unit.zero_point,
            factors=None if factors is None else factors[np.newaxis],
            pixel_scale=header.pixel_scale(),
            column_units=units,
            reading=reading,
            unread=header.unread(list(columns)),
        )
