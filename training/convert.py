"""Convert cutouts of any format to HDF5, the format that trains fastest."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from photoz.errors import InvalidDataset
from photoz.grid import BoolArray
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import Column, Cutouts, ImageSource, Reading
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.layout import conform, described, same_scale
from photoz.io.options import ReadOptions
from photoz.io.pasquet import PROVENANCE, is_pasquet, stream_pasquet
from photoz.io.reader import open_cutouts
from photoz.selection import find_selected
from training.imaging_surveys import Survey
from training.pickles import read_pickle

# Kinds of numpy types that HDF5 supports: booleans, numbers, bytes and text.
KINDS = "biufSU"

BLOCK = 256  # cutouts written at a time


def convert_cube(source: Path, target: Path) -> int:
    """Convert the published cube, an `.npz` file, to HDF5 in blocks; return the number of cutouts.

    The target appears when it is complete. Raises `InvalidDataset` if the source is not an intact cube of SDSS cutouts.
    """
    if not is_pasquet(source):
        raise InvalidDataset(f"expected an .npz file with arrays 'cube' and 'labels', got {source}")
    shape, columns, blocks = stream_pasquet(source)
    if shape[1:] != SDSS_IMAGES.shape:
        raise InvalidDataset(f"expected cutouts of shape {SDSS_IMAGES.shape} in {source}, got {shape[1:]}")
    with create_hdf5(target, shape[0], SDSS_IMAGES, f"{PROVENANCE} ({source.name})") as file:
        _write(file, blocks, columns)
    return shape[0]


def convert_cutouts(
    source: Path,
    target: Path,
    bands: tuple[str, ...] = (),
    size: int | None = None,
    pixel_scale: float | None = None,
    survey: Survey | None = None,
    select: str = "",
    resample: bool = False,
) -> tuple[int, int, Reading]:
    """Convert what `open_cutouts` reads to HDF5 in blocks, or the galaxies that meet the conditions `select`.

    The arguments override the file's description of its images; the survey fills in what neither gives. With `resample`
    images of another pixel scale are resampled to that of the argument or the survey. The target appears when it is
    complete. Returns the numbers of cutouts read and written, and what was done. Raises
    `InvalidDataset` if the bands or the pixel scale are unknown, or as `open_cutouts` and `find_selected`.
    """
    with open_cutouts(source) as opened:
        cutouts, spec, reading = _conformed(opened, bands, size, pixel_scale, survey, resample)
        if "z_spec" not in cutouts.columns:
            reading.assumed.append("there are no redshifts; training needs a column z_spec")
        rows = find_selected(cutouts.column, len(cutouts), select)
        columns = {name: values[rows] if np.ndim(values) else values for name, values in cutouts.columns.items()}
        n = int(rows.sum())
        with create_hdf5(target, n, spec, cutouts.provenance or source.name) as file:
            _write(file, _selected(cutouts.images, rows), columns)
        return len(cutouts), n, reading


def _selected(images: ImageSource, rows: BoolArray) -> Iterator[Column]:
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        if rows[block].any():
            yield images[block][rows[block]]


def _conformed(
    opened: Cutouts,
    bands: tuple[str, ...],
    size: int | None,
    pixel_scale: float | None,
    survey: Survey | None,
    resample: bool,
) -> tuple[Cutouts, ImageSpec, Reading]:
    """Bring cutouts into the layout of the file to write, and return it with them and with what was done."""
    names = bands or (tuple(survey.bands) if survey else ())
    options = ReadOptions(names if opened.spec is None and not opened.bands else (), resample=resample)
    of_file = (opened.spec or opened).pixel_scale
    if pixel_scale and of_file and not resample and not same_scale(pixel_scale, of_file):
        raise InvalidDataset(
            f"the file says that pixels are {of_file:.4g} arcsec wide, and the option {pixel_scale:g}: give --resample "
            "too, or neither"
        )
    cutouts = replace(opened, pixel_scale=of_file or pixel_scale)
    if survey is None:
        spec = described(cutouts, bands, size, pixel_scale)
        cutouts, reading = conform(cutouts, spec, options)
        if opened.spec is None:
            reading.assumed.append("Galactic extinction is that of SDSS's bands")
        return cutouts, spec, reading
    if opened.spec is None and not opened.unit and opened.zero_point is None and opened.factors is None:
        cutouts = replace(cutouts, unit=survey.unit, zero_point=survey.zero_point)
    spec = described(cutouts, bands or options.bands, size, pixel_scale or survey.pixel_scale)
    spec = replace(spec, extinction_coefficients=survey.images(spec.bands).extinction_coefficients)
    cutouts, reading = conform(cutouts, spec, options)
    return cutouts, spec, reading


def convert_pickle(source: Path, target: Path) -> int:
    """Convert a pickle of labelled cutouts to HDF5 and return their number; errors are those of `read_pickle`.

    The target appears when it is complete. Like the pickle, it does not name its bands.
    """
    columns = read_pickle(source)
    images = columns.pop("images")
    with create_hdf5(target, len(images), _spec_without_names(images), f"pickled arrays ({source.name})") as file:
        del file.attrs["image_spec"]
        _write(file, _float32(images), columns)
    return len(images)


def _float32(images: Column) -> Iterator[Column]:
    for start in range(0, len(images), BLOCK):
        with np.errstate(over="ignore"):  # a float64 that overflows float32 becomes infinite, which means masked
            yield images[start : start + BLOCK].astype(np.float32)


def _spec_without_names(images: Column) -> ImageSpec:
    """Return a spec whose bands are numbered."""
    _, height, width, n_bands = images.shape
    try:
        if height == width:
            return ImageSpec(size=width, bands=tuple(map(str, range(n_bands))))
    except ValueError:
        pass
    raise InvalidDataset(f"expected square cutouts of 8 to 1024 pixels a side with bands, got {images.shape}")


def _write(file: h5py.File, blocks: Iterable[Column], columns: Mapping[str, Column]) -> None:
    with tqdm(total=len(file["images"]), unit="cutout") as bar:
        for block in blocks:
            file["images"][bar.n : bar.n + len(block)] = block
            bar.update(len(block))
    write_columns(file, {name: values for name, values in columns.items() if values.dtype.kind in KINDS})
