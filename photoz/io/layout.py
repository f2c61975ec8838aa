"""Convert cutouts to the layout that a model takes: bands last and in its order, size and unit.

Properties that a file does not give are assumed to be those of the model, and reported. Others are converted, or
refused if that is not possible.
"""

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.flags import Flag
from photoz.grid import FloatArray
from photoz.images import ImageSpec
from photoz.io.bands import model_bands, order_of_bands
from photoz.io.columns import standard_columns
from photoz.io.cutouts import Cutouts, ImageSource, LazyImages, Reading
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.io.pixel_units import PixelUnit, same_flux
from photoz.io.resampling import ROUNDING, resample
from photoz.io.units import nanomaggies_per
from photoz.io.unread import BANDS, SCALE, UNIT, unread_error

NANOMAGGY = "nanomaggy"

SAME_SCALE = 0.02  # largest relative difference of pixel scales


def described(
    cutouts: Cutouts, bands: tuple[str, ...] = (), size: int | None = None, pixel_scale: float | None = None
) -> ImageSpec:
    """Return the layout of the images in a file; arguments that are given replace what the file says.

    With another pixel scale, the size is that of the same part of the sky. Raises `InvalidDataset` if neither gives the
    bands or the pixel scale.
    """
    if (spec := cutouts.spec) is not None:
        known, names = dict(zip(spec.bands, spec.extinction_coefficients, strict=True)), bands or spec.bands
        new_scale = pixel_scale or spec.pixel_scale
        return replace(
            spec,
            bands=names,
            extinction_coefficients=tuple(map(known.get, names)),
            size=size or _size_at(spec.size, spec.pixel_scale, new_scale),
            pixel_scale=new_scale,
        )
    names, scale = bands or cutouts.bands, pixel_scale or cutouts.pixel_scale
    if not names:
        raise InvalidDataset("the file does not say which bands its images have: name them in their order")
    if scale is None:
        raise InvalidDataset("the file does not say how wide its pixels are: give the pixel scale in arcsec")
    shape = cutouts.images.shape
    sides = shape[2:4] if _bands_first(shape, len(cutouts.bands or names)) else shape[1:3]
    is_flux = cutouts.factors is not None or PixelUnit(cutouts.unit, cutouts.zero_point).nanomaggies is not None
    return ImageSpec(
        size=size or _size_at(min(sides), cutouts.pixel_scale or scale, scale),
        bands=names,
        pixel_scale=scale,
        unit=NANOMAGGY if is_flux else cutouts.unit or NANOMAGGY,
    )


def _size_at(size: int, scale: float, wanted: float) -> int:
    """Return the size in pixels of another scale, if it is another one."""
    return size if same_scale(scale, wanted) else int(size * scale / wanted)


def _convert(
    images: ImageSource,
    bands_first: bool,
    order: tuple[int, ...],
    size: int,
    ratio: float,
    factors: npt.NDArray[np.float32] | None,
    _: int,
    rows: slice,
) -> npt.NDArray[Any]:
    """Read some rows of images and convert them: axes, bands, pixel scale, central pixels and unit."""
    pixels = np.asarray(images[rows])
    if bands_first:
        pixels = np.moveaxis(pixels, -3, -1)
    pixels = pixels[..., list(order)]
    if ratio == 1.0:
        top, left = ((length - size) // 2 for length in pixels.shape[-3:-1])
        pixels = pixels[..., top : top + size, left : left + size, :]
    else:
        pixels = resample(pixels, ratio, size)
    if factors is None:
        return pixels
    some = factors if len(factors) == 1 else factors[rows]
    return np.asarray(pixels * some[:, np.newaxis, np.newaxis])


def conform(cutouts: Cutouts, spec: ImageSpec, options: ReadOptions = NO_OPTIONS) -> tuple[Cutouts, Reading]:
    """Convert cutouts to the layout of a model, `spec`.

    Parameters
    ----------
    cutouts : Cutouts
        n cutouts as in their file.
    spec : ImageSpec
        Layout of the model.
    options : ReadOptions
        What the file does not say.

    Returns
    -------
    Cutouts, Reading
        Images (n, size, size, n_bands), converted when they are sliced, and columns with their standard names; and
        what was used, assumed and left out, in words.

    Raises
    ------
    InvalidDataset
        If a band is missing, the axis of the bands is ambiguous, the cutouts are too small, the pixels have another
        scale or an unknown unit, or an option contradicts the file.
    """
    reading = deepcopy(cutouts.reading)
    columns = standard_columns(cutouts.columns, cutouts.column_units, spec.bands, reading)
    if options.ebv is not None:
        columns["ebv"] = np.broadcast_to(options.ebv, len(cutouts))
        reading.used.append(f"E(B-V) is {options.ebv:g} mag, by the option")
    of_file = (cutouts.spec or cutouts).bands
    names = _given_bands(of_file, spec, options, reading) if options.bands else of_file
    if not names and BANDS in cutouts.unread:
        raise unread_error(cutouts.unread, BANDS)
    order = order_of_bands(names, spec.bands, reading)
    shape = cutouts.images.shape
    bands_first = _bands_first(shape, len(names or spec.bands))
    height, width = shape[2:4] if bands_first else shape[1:3]
    factors = _factors(cutouts, spec, options, reading)
    ratio = _ratio(cutouts, spec, options, reading)
    needed = math.ceil(spec.size * ratio - ROUNDING)
    if min(height, width) < needed:
        raise InvalidDataset(f"expected cutouts of at least {needed}x{needed} pixels, got {height}x{width}")
    if (height, width) != (needed, needed):
        reading.used.append(f"the central {needed}x{needed} of {height}x{width} pixels")
    images: Any = cutouts.images
    same = (
        ratio == 1.0
        and order == tuple(range(shape[1 if bands_first else 3]))
        and (height, width) == (spec.size, spec.size)
    )
    if bands_first or not same or factors is not None:
        if factors is not None:
            factors = np.broadcast_to(factors, (len(factors), len(names or spec.bands)))[:, list(order)].astype(
                np.float32
            )
        convert = partial(_convert, images, bands_first, order, spec.size, ratio, factors)
        images = LazyImages(convert, np.array(shape[:1]), spec.shape)
    conformed = replace(
        cutouts, images=images, columns=columns, spec=spec, factors=None, column_units={}, reading=reading,
        flags=Flag.RESAMPLED.value if ratio != 1.0 else 0,
    )  # fmt: skip
    return conformed, reading


def _given_bands(of_file: tuple[str, ...], spec: ImageSpec, options: ReadOptions, reading: Reading) -> tuple[str, ...]:
    """Return the bands of the option; raises `InvalidDataset` if they contradict those of the file."""
    bands = options.bands
    if not of_file or model_bands(of_file, spec.bands) == model_bands(bands, spec.bands):
        return bands
    if not options.override:
        raise InvalidDataset(
            f"the file says that its bands are {','.join(of_file)}, and the option {','.join(bands)}: leave out the "
            "option, or --override the file"
        )
    reading.used.append(f"the bands {','.join(bands)} of the option, although the file says {','.join(of_file)}")
    return bands


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


def _factors(cutouts: Cutouts, spec: ImageSpec, options: ReadOptions, reading: Reading) -> FloatArray | None:
    """Return the factors by which pixels are multiplied, (n or 1, n_bands or 1); None if they are all 1."""
    of_file = PixelUnit((cutouts.spec or cutouts).unit, cutouts.zero_point if cutouts.spec is None else None)
    option = None if options.zero_point is None else PixelUnit(zero_point=options.zero_point)
    if option is not None:
        _check_option(option, of_file, cutouts.factors, options.override, reading)
    elif of_file.unit == spec.unit:
        if cutouts.spec is None:
            reading.used.append(f"pixels are in {spec.unit}")
        return None
    elif cutouts.factors is None and of_file == PixelUnit():
        if UNIT in cutouts.unread:
            raise unread_error(cutouts.unread, UNIT)
        reading.assumed.append(f"pixels are in {spec.unit}")
        return None
    target, text = nanomaggies_per(spec.unit), str(option or of_file)
    if target is None:
        raise InvalidDataset(f"expected pixels in {spec.unit}, as the model was trained, got {text}")
    if option is None and cutouts.factors is not None:
        factors = cutouts.factors / target
        low, high = factors.min(), factors.max()
        reading.used.append(
            f"pixels are multiplied by {low:.6g} to {high:.6g}, for the unit or zero point of each image"
        )
        return np.asarray(factors)
    if (worth := (option or of_file).nanomaggies) is None:
        others = f" ({', '.join(cutouts.unread[UNIT])} may be one)" if UNIT in cutouts.unread else ""
        raise InvalidDataset(
            f"pixels of {cutouts.name} are in {of_file.unit}, which is no flux density, such as nanomaggy, Jy or nJy: "
            f"give the AB zero point of such pixels{others}"
        )
    factor = worth / target
    reading.used.append(f"pixels are multiplied by {factor:.6g}, for {text}")
    return None if factor == 1.0 else np.array([[factor]])


def _check_option(
    option: PixelUnit, of_file: PixelUnit, factors: FloatArray | None, override: bool, reading: Reading
) -> None:
    """Refuse a zero point that contradicts what the file says, unless it overrides that."""
    if factors is None and (of_file.nanomaggies is None or same_flux(of_file.nanomaggies, option.nanomaggies)):
        return
    text = str(of_file) if factors is None else "a unit or zero point for each image"
    if not override:
        raise InvalidDataset(
            f"the file gives {text}, and the option {option}: leave out the option, or --override the file"
        )
    reading.used.append(f"{option} of the option, although the file gives {text}")


def same_scale(scale: float, expected: float) -> bool:
    """Return whether a pixel scale differs from the expected one by at most `SAME_SCALE`."""
    return abs(scale / expected - 1.0) <= SAME_SCALE


def _ratio(cutouts: Cutouts, spec: ImageSpec, options: ReadOptions, reading: Reading) -> float:
    """Return the side of the pixels to make, in pixels of the file: 1 unless cutouts are resampled."""
    scale = (cutouts.spec or cutouts).pixel_scale
    if scale is None:
        if SCALE in cutouts.unread:
            raise unread_error(cutouts.unread, SCALE)
        reading.assumed.append(f"pixels are {spec.pixel_scale:g} arcsec wide")
    elif same_scale(scale, spec.pixel_scale):
        if cutouts.spec is None:
            reading.used.append(f"pixels are {scale:.4g} arcsec wide")
    elif options.resample:
        reading.used.append(f"pixels of {scale:.4g} arcsec are resampled to {spec.pixel_scale:g} arcsec, RESAMPLED")
        return spec.pixel_scale / scale
    else:
        raise InvalidDataset(
            f"expected pixels of {spec.pixel_scale:g} arcsec, got {scale:.4g}: resample them, as commands do with "
            "--resample"
        )
    return 1.0
