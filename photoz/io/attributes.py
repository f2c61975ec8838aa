"""Attributes by which files other than FITS describe their images, of the file or of the images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset
from photoz.images import ImageSpec, parse_bands
from photoz.io.cutouts import Column, Cutouts, ImageSource, Reading
from photoz.io.pixel_units import PixelUnit, common_unit, read_pixel_unit
from photoz.io.unread import find_unread


def from_attributes(
    images: ImageSource,
    columns: Mapping[str, Column],
    attributes: Mapping[str, Any],
    path: Path,
    column_units: Mapping[str, str] | None = None,
    left_out: tuple[str, ...] = (),
) -> Cutouts:
    """Return cutouts described by attributes: `image_spec`, or `bands`, `unit`, `zero_point` and `pixel_scale`.

    A unit or a zero point is that of all images or a sequence, one for each band. Raises `InvalidDataset` if they
    cannot be read, or contradict each other.
    """
    try:
        described, scale = attributes.get("image_spec"), attributes.get("pixel_scale")
        spec = None if described is None else _read_spec(described)
        bands = _read_bands(attributes.get("bands"))
        pixel_scale = None if scale is None else float(np.asarray(scale, dtype=np.float64).item())
        unit, factors = _read_unit(attributes, bands, path)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidDataset):
            raise
        raise InvalidDataset(f"{path} describes its images in a way that cannot be read: {error}") from error
    return Cutouts(
        images,
        columns,
        spec,
        provenance=str(attributes.get("provenance", path.name)),
        bands=bands,
        unit=unit.unit,
        zero_point=unit.zero_point,
        factors=factors,
        pixel_scale=pixel_scale,
        column_units=column_units or {},
        reading=Reading(left_out=list(left_out)),
        unread=find_unread({**columns, **{name: attributes[name] for name in attributes if name not in NAMES}}),
    )


# What beside the images describes them.
NAMES = ("image_spec", "bands", "unit", "zero_point", "pixel_scale", "provenance")


def merged(of_file: Mapping[str, Any], of_images: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the attributes of a file and of its images; raises `InvalidDataset` if they contradict each other."""
    if scaled := sorted({"scale_factor", "add_offset"}.intersection(of_images)):
        raise InvalidDataset(
            f"{path} has images with {' and '.join(scaled)}: apply these, and write the pixels themselves"
        )
    for name in NAMES:
        if name in of_file and name in of_images and _texts(of_file[name]) != _texts(of_images[name]):
            raise InvalidDataset(
                f"{path} contradicts itself: {name} is {of_file[name]} of the file, and {of_images[name]} of its images"
            )
    return {**of_file, **of_images}


def unit_of(attributes: Mapping[str, Any]) -> str:
    """Return the unit of a column, "" if its attributes have none."""
    unit = next((value for name, value in attributes.items() if name.lower() in ("unit", "units")), "")
    return unit.decode() if isinstance(unit, bytes) else str(unit)


def _texts(value: Any) -> list[str]:
    """Return one text or several."""
    if isinstance(value, str | bytes):
        value = [value]
    return [v.decode() if isinstance(v, bytes) else str(v) for v in np.atleast_1d(np.asarray(value, object)).tolist()]


def _read_bands(bands: Any) -> tuple[str, ...]:
    texts = [] if bands is None else _texts(bands)
    return parse_bands(texts[0]) if len(texts) == 1 else tuple(texts)


def _read_unit(attributes: Mapping[str, Any], bands: tuple[str, ...], path: Path) -> tuple[PixelUnit, Any]:
    units = _texts(attributes.get("unit", "")) or [""]
    points = np.atleast_1d(np.asarray(attributes.get("zero_point", []), dtype=np.float64)).tolist()
    n = max(len(units), len(points))
    if n > 1 and n != len(bands) or not {len(units), len(points)} <= {0, 1, n}:
        raise InvalidDataset(
            f"{path} gives {len(units)} units and {len(points)} zero points for the bands {','.join(bands) or 'none'}: "
            "expected one for all, or one for each band"
        )
    units, points = units * (n // len(units)), points * (n // max(len(points), 1))
    read = []
    for number, unit in enumerate(units):
        where = f"{path}, band {bands[number]}" if n > 1 else str(path)
        read.append(read_pixel_unit(unit.strip(), {"zero_point": points[number]} if points else {}, where))
    common, factors = common_unit(read, [f"band {band}" for band in bands] or [""], path)
    return common, None if factors is None else factors[np.newaxis]


def _read_spec(described: object) -> ImageSpec:
    """Read the attribute `image_spec`, a mapping or its JSON; raises `TypeError` or `ValueError`."""
    fields = json.loads(described) if isinstance(described, str) else described
    if not isinstance(fields, Mapping):
        raise TypeError(f"expected a mapping, got {fields!r}")
    return ImageSpec(**fields)
