"""Convert cutouts to the layout that a model takes: bands last and in its order, size and unit.

Properties that a file does not give are assumed to be those of the model, and reported. Others are converted, or
refused if that is not possible.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.images import ZERO_POINT, ImageSpec, parse_bands
from photoz.io.cutouts import Column, Cutouts, ImageSource, LazyImages

# Other names of columns in published data sets, in lower case.
ALIASES = {
    "object_id": ("objid", "obj_id", "specobjid", "id", "name"),
    "ebv": ("e_bv", "e(b-v)", "ebv_sfd"),
    "z_spec": ("specz_redshift", "redshift", "zspec", "specz", "z"),
    "ra": ("raj2000", "ra_j2000"),
    "dec": ("dej2000", "dec_j2000", "decl"),
}

# Nanomaggies per unit of flux density, by the unit in lower case. 1 nanomaggy is 3.631 microjansky (AB).
NANOMAGGIES = {
    "nanomaggy": 1.0,
    "nanomaggies": 1.0,
    "nmgy": 1.0,
    "maggy": 1e9,
    "maggies": 1e9,
    "jy": 1e6 / 3.631,
    "mjy": 1e3 / 3.631,
    "ujy": 1 / 3.631,
    "njy": 1e-3 / 3.631,
}
NANOMAGGY = "nanomaggy"

SAME_SCALE = 0.02  # largest relative difference of pixel scales

Assumptions = tuple[str, ...]


def described(
    cutouts: Cutouts, bands: tuple[str, ...] = (), size: int | None = None, pixel_scale: float | None = None
) -> ImageSpec:
    """Return the layout of the images in a file; arguments that are given replace what the file says.

    Raises `InvalidDataset` if neither gives the bands or the pixel scale.
    """
    if (spec := cutouts.spec) is not None:
        known, names = dict(zip(spec.bands, spec.extinction_coefficients, strict=True)), bands or spec.bands
        return replace(
            spec,
            bands=names,
            extinction_coefficients=tuple(map(known.get, names)),
            size=size or spec.size,
            pixel_scale=pixel_scale or spec.pixel_scale,
        )
    names, scale = bands or cutouts.bands, pixel_scale or cutouts.pixel_scale
    if not names:
        raise InvalidDataset("the file does not say which bands its images have: name them in their order")
    if scale is None:
        raise InvalidDataset("the file does not say how wide its pixels are: give the pixel scale in arcsec")
    shape = cutouts.images.shape
    sides = shape[2:4] if _bands_first(shape, len(cutouts.bands or names)) else shape[1:3]
    unit = NANOMAGGY if cutouts.unit.lower() in NANOMAGGIES or cutouts.zero_point is not None else cutouts.unit
    return ImageSpec(size=size or min(sides), bands=names, pixel_scale=scale, unit=unit or NANOMAGGY)


def from_attributes(
    images: ImageSource, columns: Mapping[str, Column], attributes: Mapping[str, Any], path: Path
) -> Cutouts:
    """Return cutouts described by attributes of their file: `image_spec`, or `bands`, `unit` and `pixel_scale`."""
    try:
        described, scale = attributes.get("image_spec"), attributes.get("pixel_scale")
        spec = None if described is None else _read_spec(described)
        bands, pixel_scale = _read_bands(attributes.get("bands")), None if scale is None else float(scale)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDataset(f"{path} describes its images in a way that cannot be read: {error}") from error
    provenance, unit = str(attributes.get("provenance", path.name)), str(attributes.get("unit", ""))
    return Cutouts(images, columns, spec, provenance, bands, unit, pixel_scale=pixel_scale)


def _read_bands(bands: Any) -> tuple[str, ...]:
    if bands is None or isinstance(bands, str):
        return parse_bands(bands or "")
    return tuple(band.decode() if isinstance(band, bytes) else str(band) for band in bands)


def _read_spec(described: object) -> ImageSpec:
    """Read the attribute `image_spec`, a mapping or its JSON; raises `TypeError` or `ValueError`."""
    fields = json.loads(described) if isinstance(described, str) else described
    if not isinstance(fields, Mapping):
        raise TypeError(f"expected a mapping, got {fields!r}")
    return ImageSpec(**fields)


def _convert(
    images: ImageSource, bands_first: bool, order: tuple[int, ...], size: int, factor: float, _: int, rows: slice
) -> npt.NDArray[Any]:
    """Read some rows of images and convert them: axes, bands, central pixels and unit."""
    pixels = np.asarray(images[rows])
    if bands_first:
        pixels = np.moveaxis(pixels, -3, -1)
    top, left = ((length - size) // 2 for length in pixels.shape[-3:-1])
    pixels = pixels[..., top : top + size, left : left + size, :][..., list(order)]
    return pixels if factor == 1.0 else np.asarray(pixels * np.float32(factor))


def conform(
    cutouts: Cutouts, spec: ImageSpec, bands: tuple[str, ...] = (), zero_point: float | None = None
) -> tuple[Cutouts, Assumptions]:
    """Convert cutouts to the layout of a model, `spec`.

    Parameters
    ----------
    cutouts : Cutouts
        n cutouts as in their file.
    spec : ImageSpec
        Layout of the model.
    bands, zero_point : tuple of str, float
        Bands of the images in their order, and the AB magnitude of a pixel with the value 1, instead of those in the
        file.

    Returns
    -------
    Cutouts, tuple of str
        Images (n, size, size, n_bands), converted when they are sliced, and columns with their standard names; and
        what was assumed and converted, in words.

    Raises
    ------
    InvalidDataset
        If a band is missing, the axis of the bands is ambiguous, the cutouts are too small, or the pixels have another
        scale or an unknown unit.
    """
    assumptions = list(cutouts.assumed)
    columns = _renamed(cutouts.columns, spec, assumptions)
    source = cutouts.spec or cutouts
    bands = _band_names(bands or source.bands, spec)
    order = _order(bands, spec, assumptions)
    shape = cutouts.images.shape
    bands_first = _bands_first(shape, len(bands or spec.bands))
    height, width = shape[2:4] if bands_first else shape[1:3]
    if min(height, width) < spec.size:
        raise InvalidDataset(f"expected cutouts of at least {spec.size}x{spec.size} pixels, got {height}x{width}")
    if (height, width) != (spec.size, spec.size):
        assumptions.append(f"the central {spec.size}x{spec.size} of {height}x{width} pixels are used")
    factor = _factor(cutouts, spec, zero_point, assumptions)
    _check_scale(source.pixel_scale, spec, assumptions)
    images: Any = cutouts.images
    same = order == tuple(range(shape[1 if bands_first else 3])) and (height, width) == (spec.size, spec.size)
    if bands_first or not same or factor != 1.0:
        convert = partial(_convert, images, bands_first, order, spec.size, factor)
        images = LazyImages(convert, np.array(shape[:1]), spec.shape)
    return replace(cutouts, images=images, columns=columns, spec=spec), tuple(assumptions)


def _renamed(columns: Mapping[str, Column], spec: ImageSpec, assumptions: list[str]) -> dict[str, Column]:
    renamed = dict(columns)
    magnitudes = set(spec.bands) if len(set(spec.bands) & set(renamed)) > 1 else set()  # a column z may be one
    for name, aliases in ALIASES.items():
        candidates = {*aliases, name} - magnitudes
        others = [column for column in renamed if column.lower() in candidates and column != name]
        if name in renamed or not others:
            continue
        if name == "object_id":  # several names do no harm: the first in `ALIASES` is taken
            others = sorted(others, key=lambda column: (name, *aliases).index(column.lower()))[:1]
        if len(others) > 1:
            raise InvalidDataset(f"any of the columns {', '.join(others)} may be {name}: rename one of them to {name}")
        renamed[name] = renamed.pop(others[0])
        assumptions.append(f"the column {others[0]} is {name}")
    return renamed


def _band_names(names: tuple[str, ...], spec: ImageSpec) -> tuple[str, ...]:
    """Remove survey prefixes such as "SDSS_" from names if that makes them the bands of a model.

    FITS keywords are often upper case: "G" is g if the model has no band G.
    """
    last = tuple(map(without_survey, names))
    by_lower_case = {band.lower(): band for band in spec.bands}
    if len(by_lower_case) == len(spec.bands) and not set(last) & set(spec.bands):
        last = tuple(by_lower_case.get(name.lower(), name) for name in last)
    return last if set(spec.bands) <= set(last) else names


def without_survey(band: str) -> str:
    """Return the name of a band without a survey prefix: "g" for "SDSS_g"."""
    return re.split(r"[\s_.\-]", band)[-1]


def _order(bands: tuple[str, ...], spec: ImageSpec, assumptions: list[str]) -> tuple[int, ...]:
    listed = ",".join(spec.bands)
    if not bands:
        assumptions.append(f"the bands are {listed} in this order")
        return tuple(range(len(spec.bands)))
    if len(set(bands)) < len(bands):
        raise InvalidDataset(f"expected each band once, got {','.join(bands)}")
    if missing := [band for band in spec.bands if band not in bands]:
        raise InvalidDataset(f"expected the bands {listed}, got {','.join(bands)}; missing: {','.join(missing)}")
    if bands != spec.bands:
        assumptions.append(f"the bands {listed} are taken from {','.join(bands)}")
    return tuple(bands.index(band) for band in spec.bands)


def _bands_first(shape: tuple[int, ...], n_bands: int) -> bool:
    """Return whether the bands come before the pixels, judging by the lengths of the axes."""
    if len(shape) != 4:
        raise InvalidDataset(f"expected images of four axes, (n, size, size, n_bands), got shape {shape}")
    first, last = shape[1] == n_bands, shape[3] == n_bands
    if first and last:
        raise InvalidDataset(f"the bands may be the second or the last axis of {shape}: move them last")
    if not (first or last):
        raise InvalidDataset(f"expected {n_bands} bands as the second or the last axis of images, got shape {shape}")
    return first


def _factor(cutouts: Cutouts, spec: ImageSpec, zero_point: float | None, assumptions: list[str]) -> float:
    """Return the factor by which pixels are multiplied."""
    unit = (cutouts.spec or cutouts).unit
    if zero_point is None and not unit:
        zero_point = cutouts.zero_point
    if zero_point is None and unit == spec.unit:
        return 1.0
    if zero_point is None and not unit:
        assumptions.append(f"pixels are in {spec.unit}")
        return 1.0
    if spec.unit != NANOMAGGY:
        raise InvalidDataset(f"expected pixels in {spec.unit}, as the model was trained, got {unit or 'a zero point'}")
    if zero_point is not None:
        factor, text = float(10.0 ** (0.4 * (ZERO_POINT - zero_point))), f"the zero point {zero_point:g}"
    elif unit.lower() in NANOMAGGIES:
        factor, text = NANOMAGGIES[unit.lower()], f"the unit {unit}"
    else:
        raise InvalidDataset(
            f"pixels are in {unit}, which is unknown; expected one of {', '.join(NANOMAGGIES)}, or a zero point"
        )
    if factor != 1.0:
        assumptions.append(f"pixels are multiplied by {factor:.6g}, for {text}")
    return factor


def same_scale(scale: float, expected: float) -> bool:
    """Return whether a pixel scale differs from the expected one by at most `SAME_SCALE`."""
    return abs(scale / expected - 1.0) <= SAME_SCALE


def _check_scale(scale: float | None, spec: ImageSpec, assumptions: list[str]) -> None:
    if scale is None:
        assumptions.append(f"pixels are {spec.pixel_scale:g} arcsec wide")
    elif not same_scale(scale, spec.pixel_scale):
        raise InvalidDataset(f"expected pixels of {spec.pixel_scale:g} arcsec, got {scale:.4g}: resample them")
