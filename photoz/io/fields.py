"""Cutouts at the positions of a catalogue, out of large FITS images: a file for each band, or one for all."""

import bz2
import gzip
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.images import ImageSpec
from photoz.io.catalogue_files import read_table
from photoz.io.columns import NamedTable
from photoz.io.cutouts import Column, Cutouts, LazyImages, Reading
from photoz.io.file_list import list_files, stem
from photoz.io.fits import common_scale, contents, described, opened
from photoz.io.fits_header import ImageHeader, has_icrs
from photoz.io.fits_masks import Plane, with_masks
from photoz.io.formats import FITS, read_format
from photoz.io.frame import Frame, Pixels, cut, cut_pixels
from photoz.io.layout import same_scale
from photoz.io.options import ReadOptions
from photoz.io.planes import arrange
from photoz.io.reader import open_cutouts
from photoz.io.resampling import ROUNDING

NAMES = ("object_id", "ra", "dec", "ebv", "z_spec")

UNPACK: Mapping[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress}

SAME_POSITION = 0.1  # pixels by which bands of one WCS may differ


def open_or_cut(path: Path, spec: ImageSpec, options: ReadOptions) -> AbstractContextManager[Cutouts]:
    """Open cutouts, or cut those that a model takes out of large images if the options name a catalogue.

    Raises as `open_cutouts`, or `InvalidDataset` if an image or the catalogue cannot be used.
    """
    return open_cutouts(path, options) if options.at is None else _cut_out(path, options.at, spec, options)


def read_positions(path: Path) -> tuple[dict[str, Column], list[str]]:
    """Return the columns of a catalogue, (n,) each, by our names, and what was renamed or converted.

    Raises `InvalidDataset` without ra and dec.
    """
    table = read_table(path, {name: name for name in (*NAMES, "split")})
    if missing := [name for name in ("ra", "dec") if name not in table]:
        raise InvalidDataset(f"{path} lacks {' and '.join(missing)}; it has {', '.join(table.columns)}")
    columns: dict[str, Column] = {name: table.numbers(name) for name in NAMES[1:] if name in table}
    bad = ~(np.isfinite(columns["ra"]) & (np.abs(columns["dec"]) <= 90.0))
    if bad.any():
        raise InvalidDataset(f"{path} has no position in row {int(np.argmax(bad)) + 1}: expected ra and dec in degrees")
    return {"object_id": _ids(table), **columns}, list(table.notes())


def _ids(table: NamedTable) -> Column:
    if "object_id" not in table:
        return np.arange(len(table))
    text = table.text("object_id")
    with suppress(ValueError, OverflowError):
        numbers = text.astype(np.int64)
        if (numbers.astype(np.str_) == text).all():  # not 007, say
            return numbers
    return text


@contextmanager
def _cut_out(path: Path, catalogue: Path, spec: ImageSpec, options: ReadOptions) -> Iterator[Cutouts]:
    columns, notes = read_positions(catalogue)
    with ExitStack() as stack:
        reading = Reading()
        files, left_out = list_files(path) or ([path], [])
        reading.left_out.extend(left_out)
        planes, bands = _planes(files, path, options, reading, stack)
        headers = [plane.header for plane in planes]
        scale = common_scale(headers, path) or spec.pixel_scale
        frames = [Frame(_Section(plane), _wcs(plane.header)) for plane in planes]
        ratio = 1.0 if same_scale(scale, spec.pixel_scale) else spec.pixel_scale / scale
        size = math.ceil(spec.size * ratio - ROUNDING)
        pixels = _common_pixels(frames, columns)
        grid = "resampled to a grid of their own, as their WCS differ" if pixels is None else "one grid of pixels"
        reading.used.extend([f"cutouts at the positions of {catalogue.name}; bands are {grid}", *notes])
        sky = np.transpose([columns["ra"], columns["dec"]])
        at, target = (sky, scale) if pixels is None else (pixels, None)
        shape = (size, size, len(frames))
        first = LazyImages(partial(_read, frames, at, target, size), np.array([1]), shape)
        cutouts = described(first, {}, headers, tuple(filter(None, bands)), path, reading)
        yield replace(cutouts, images=replace(first, stops=np.array([len(sky)])), columns=columns)


def _wcs(header: ImageHeader) -> Any:
    """Return the `astropy.wcs.WCS` of an image; raises `InvalidDataset` without right ascension and declination."""
    if (wcs := header.read_wcs()) is None:
        raise InvalidDataset(f"{header.where} has no WCS: expected one to find the positions of the catalogue")
    if not has_icrs(wcs) or wcs.wcs.lng:
        raise InvalidDataset(
            f"{header.where} has the coordinates {','.join(wcs.wcs.ctype)} {wcs.wcs.radesys}: expected right ascension "
            "and declination in ICRS or FK5 (J2000); resample it"
        )
    return wcs


def _planes(
    files: Sequence[Path], path: Path, options: ReadOptions, reading: Reading, stack: ExitStack
) -> tuple[list[Plane], list[str]]:
    """Return the image of each band, and the bands; raises `InvalidDataset` if they are not clear."""
    planes: list[Plane] = []
    names: list[str] = []
    for file in files:
        if read_format(file) is not FITS:
            raise InvalidDataset(f"expected FITS images to cut galaxies out of, got {file}")
        unpack = UNPACK.get(file.suffix.lower())  # as a whole: parts of packed files are slow to read
        stream: Any = file.open("rb") if unpack is None else io.BytesIO(unpack(file.read_bytes()))
        hdus = stack.enter_context(opened(stack.enter_context(stream), file, False))
        images, _, of_file = contents(hdus, file, options)
        images = [header for header in images if len(header.hdu.shape) == 2]
        reading.add(of_file)
        of_sky = [header for header in images if not header.kind]
        planes += with_masks(of_sky, [header for header in images if header.kind], reading)
        names += [header.hdu.name.removeprefix("PRIMARY") or stem(file) for header in of_sky]
    if not planes:
        raise InvalidDataset(f"{path} holds no image of two axes: expected one for each band")
    given = [plane.header.filter for plane in planes]
    if len(planes) == 1:
        return planes, given
    galaxies, bands, numbers = arrange(names, given if all(given) else [""] * len(given), path)
    if len(galaxies) > 1:
        raise InvalidDataset(f"expected one image for each band in {path}, got {', '.join(names)}")
    return [planes[number] for number in numbers[0]], bands


@dataclass(frozen=True)
class _Section:
    """The pixels of a plane, read when they are sliced."""

    plane: Plane

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.plane.header.hdu.shape)

    def __getitem__(self, box: tuple[slice, slice]) -> Pixels:
        if 0 in (len(range(*part.indices(n))) for part, n in zip(box, self.shape, strict=True)):
            return np.empty((0, 0), np.float32)  # astropy reads no empty sections
        return np.asarray(self.plane.read(box[0])[:, box[1]], np.float32)


def _common_pixels(frames: Sequence[Frame], columns: dict[str, Column]) -> FloatArray | None:
    """Return the pixel of each galaxy, x and y, (n, 2), if it is the same in all frames."""
    positions = [
        np.transpose(frame.wcs.all_world2pix(columns["ra"], columns["dec"], 0, quiet=True)) for frame in frames
    ]
    differences = [np.abs(other - positions[0]) for other in positions[1:]]
    same = all(bool(np.nanmax(difference, initial=0.0) <= SAME_POSITION) for difference in differences)
    return np.round(positions[0], 3) if same else None  # digits that are noise would move some by a pixel


def _read(
    frames: Sequence[Frame], positions: FloatArray, scale: float | None, size: int, _: int, rows: slice
) -> Pixels:
    """Cut out some rows, (m, size, size, n_bands): around pixels, or around ra and dec if there is a scale."""
    cutouts = [
        [cut_pixels(frame, x, y, size) if scale is None else cut(frame, x, y, size, scale) for frame in frames]
        for x, y in positions[rows].tolist()
    ]
    return np.moveaxis(np.array(cutouts, np.float32).reshape(-1, len(frames), size, size), 1, -1)
