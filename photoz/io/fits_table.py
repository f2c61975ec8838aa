"""Tables in FITS files: columns of images, and columns of numbers and text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.columns import plain
from photoz.io.cutouts import Column, ImageSource, LazyImages, Reading
from photoz.io.fits_header import KINDS, WORDS, ImageHeader
from photoz.io.pixel_units import PixelUnit, read_pixel_unit


def columns_of(table: Any, reading: Reading, images: Sequence[str] = ()) -> tuple[dict[str, Column], dict[str, str]]:
    """Return the columns of a table that are no images, and their units; names in lower case if these are distinct."""
    names = [name for name in table.columns.names if name not in images]
    lower = [name.lower() for name in names]
    keys = lower if len(set(lower)) == len(lower) else names
    columns, units = {}, {}
    for key, name in zip(keys, names, strict=True):
        values = table.data[name]
        if values.dtype.kind not in "biufSU":
            reading.left_out.append(f"the column {name} of {values.dtype}")
            continue
        if values.dtype.kind in "iu" and isinstance(null := table.columns[name].null, int):
            values = np.ma.masked_where(values == null, values)
        columns[key] = plain(values)
        units[key] = str(table.columns[name].unit or "").strip()
    return columns, units


def image_table(
    tables: Sequence[Any], path: Path, reading: Reading, chosen: Sequence[str] = ()
) -> tuple[Any, list[str], list[str]]:
    """Find the table with images: return it, its columns of images, and the band of each; "" for all bands in one.

    The images are in the chosen columns, if there are any. Raises `InvalidDataset` if no table has images, or it is not
    clear which columns they are.
    """
    for table in tables:
        shapes = {name: dtype.shape for name, (dtype, *_) in (table.columns.dtype.fields or {}).items()}
        of_kind = {name: next((w for w in WORDS.split(name.upper()) if w in KINDS), "") for name in shapes}
        by_lower = {name.lower(): name for name in shapes}
        candidates = [name for name in shapes if not of_kind[name]]
        if chosen:
            candidates = [by_lower[name.lower()] for name in chosen if name.lower() in by_lower]
        cubes = [name for name in candidates if len(shapes[name]) == 3]
        planes = [name for name in candidates if len(shapes[name]) == 2]
        if chosen and len(chosen) not in (len(cubes), len(planes)):
            continue
        if len(cubes) > 1:
            raise InvalidDataset(
                f"expected one column of images in {path}, got {', '.join(cubes)}: choose it by --column"
            )
        if not cubes and not planes:
            continue
        if not cubes and len({shapes[name] for name in planes}) > 1:
            listed = ", ".join(f"{name} {shapes[name]}" for name in planes)
            raise InvalidDataset(
                f"expected columns of images of one shape in {path}, got {listed}: choose them by --column"
            )
        if others := [name for name, shape in shapes.items() if len(shape) > 1 and name not in (cubes or planes)]:
            reading.left_out.append(f"the columns {', '.join(others)} of {table.name or 'the table'}")
        return table, cubes or planes, [""] if cubes else [_band(name) for name in planes]
    if chosen:
        listed = "; ".join(", ".join(table.columns.names) for table in tables) or "no table"
        raise InvalidDataset(f"{path} has no column of images {','.join(chosen)}; it has {listed}")
    raise InvalidDataset(
        f"{path} holds no images: expected an image of two axes or more, or a column of images, whose shape TDIM gives"
    )


def _band(column: str) -> str:
    """Return the name of a column without words such as "image"."""
    words = [
        word for word in WORDS.split(column) if word.lower() not in ("image", "images", "img", "cutout", "flux", "data")
    ]
    return "_".join(words) or column


def read_images(table: Any, names: Sequence[str]) -> ImageSource:
    """Return the images of one column, (n, ...), or of several, (n, size, size, n_bands); blank pixels are NaN."""
    rows = table.data
    blanks = [_blank(table.columns[name]) for name in names]
    first: npt.NDArray[Any] = rows[names[0]]
    if len(names) == 1 and blanks == [None]:
        return first if first.ndim == 4 else first[..., np.newaxis]
    several = len(names) > 1 or first.ndim == 3

    def read(_: int, part: slice) -> npt.NDArray[Any]:
        images = [_masked(rows[name][part], blank) for name, blank in zip(names, blanks, strict=True)]
        return np.stack(images, axis=-1) if several else images[0]

    return LazyImages(read, np.array(first.shape[:1]), (*first.shape[1:], *([len(names)] if several else [])))


def _blank(column: Any) -> float | None:
    """Return the value of pixels that are unknown, which TNULL gives before TSCAL and TZERO are applied."""
    if not isinstance(column.null, int):
        return None
    return float(column.null * (column.bscale or 1.0) + (column.bzero or 0.0))


def _masked(pixels: npt.NDArray[Any], blank: float | None) -> npt.NDArray[Any]:
    return pixels if blank is None else np.where(pixels == blank, np.nan, pixels)


def pixel_units(table: Any, names: Sequence[str], header: ImageHeader) -> list[PixelUnit]:
    """Return what pixels are worth in each column: by its TUNIT, or the header; raises as `ImageHeader.pixel_unit`."""
    of_table = header.pixel_unit()
    units = [str(table.columns[name].unit or "").strip() for name in names]
    points = {} if of_table.zero_point is None else {"the zero point": of_table.zero_point}
    return [
        read_pixel_unit(unit, points, f"{header.where}, column {name}") if unit else of_table
        for unit, name in zip(units, names, strict=True)
    ]
