"""Convert cutouts of any format to HDF5, the format that trains fastest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import Column, Cutouts
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.layout import Assumptions, conform, described
from photoz.io.pasquet import PROVENANCE, is_pasquet, stream_pasquet
from photoz.io.reader import open_cutouts
from training.imaging_surveys import Survey
from training.pickles import read_pickle

# Kinds of numpy types that HDF5 supports: booleans, numbers, bytes and text.
KINDS = "biufSU"

BLOCK = 256  # cutouts written at a time


def convert_cube(source: Path, target: Path) -> int:
    """Convert the cube, an `.npz` file, to HDF5 with a few cutouts in memory at a time; return their number.

    The target appears when it is complete. Raises `InvalidDataset` if the source is something else, is damaged, or does
    not hold SDSS cutouts.
    """
    if not is_pasquet(source):
        raise InvalidDataset(f"expected an .npz file with arrays 'cube' and 'labels', got {source}")
    shape, columns, blocks = stream_pasquet(source)
    if shape[1:] != SDSS_IMAGES.shape:
        raise InvalidDataset(f"expected cutouts of shape {SDSS_IMAGES.shape} in {source}, got {shape[1:]}")
    with (
        create_hdf5(target, shape[0], provenance=f"{PROVENANCE} ({source.name})") as file,
        tqdm(total=shape[0], unit="cutout") as bar,
    ):
        for block in blocks:
            file["images"][bar.n : bar.n + len(block)] = block
            bar.update(len(block))
        write_columns(file, {name: values for name, values in columns.items() if values.dtype.kind in KINDS})
    return shape[0]


def convert_cutouts(
    source: Path,
    target: Path,
    bands: tuple[str, ...] = (),
    size: int | None = None,
    pixel_scale: float | None = None,
    survey: Survey | None = None,
) -> tuple[int, Assumptions]:
    """Convert what `open_cutouts` reads to HDF5, a few cutouts at a time; return their number and what was assumed.

    The arguments replace what the file says of its images; the survey says what neither does. The target appears when
    it is complete. Raises `InvalidDataset` if the bands or the pixel scale are not said, or as `open_cutouts`.
    """
    with open_cutouts(source) as opened:
        cutouts, spec, assumptions = _conformed(opened, bands, size, pixel_scale, survey)
        with (
            create_hdf5(target, len(cutouts), spec, cutouts.provenance or source.name) as file,
            tqdm(total=len(cutouts), unit="cutout") as bar,
        ):
            for start in range(0, len(cutouts), BLOCK):
                block = cutouts.images[start : start + BLOCK]
                file["images"][start : start + len(block)] = block
                bar.update(len(block))
            write_columns(
                file, {name: values for name, values in cutouts.columns.items() if values.dtype.kind in KINDS}
            )
        return len(cutouts), assumptions


def _conformed(
    opened: Cutouts, bands: tuple[str, ...], size: int | None, pixel_scale: float | None, survey: Survey | None
) -> tuple[Cutouts, ImageSpec, Assumptions]:
    own = bands if opened.spec is None and not opened.bands else ()
    found = replace(opened, pixel_scale=pixel_scale or opened.pixel_scale)
    if survey is None:
        spec = described(found, bands, size, pixel_scale)
        cutouts, said = conform(found, spec, own)
        return cutouts, spec, said if opened.spec else (*said, "Galactic extinction is that of SDSS's bands")
    if opened.spec is None:
        own = own or (() if opened.bands else tuple(survey.bands))
        if not opened.unit and opened.zero_point is None:
            found = replace(found, unit=survey.unit, zero_point=survey.zero_point)
    spec = described(found, bands or own, size, pixel_scale or survey.pixel_scale)
    spec = replace(spec, extinction_coefficients=survey.images(spec.bands).extinction_coefficients)
    cutouts, said = conform(found, spec, own)
    return cutouts, spec, said


def convert_pickle(source: Path, target: Path) -> int:
    """Convert a pickle of labelled cutouts to HDF5 and return their number; errors are those of `read_pickle`.

    The target appears when it is complete. Like the pickle it does not say which bands its images have.
    """
    columns = read_pickle(source)
    images = columns.pop("images")
    provenance = f"pickled arrays ({source.name})"
    with create_hdf5(target, len(images), _spec_without_names(images), provenance) as file:
        del file.attrs["image_spec"]
        for start in range(0, len(images), BLOCK):
            with np.errstate(over="ignore"):  # a float64 that overflows float32 becomes infinite, which means masked
                file["images"][start : start + BLOCK] = images[start : start + BLOCK].astype(np.float32)
        write_columns(file, columns)
    return len(images)


def _spec_without_names(images: Column) -> ImageSpec:
    """Return a spec whose bands are numbered."""
    _, height, width, n_bands = images.shape
    try:
        if height == width:
            return ImageSpec(size=width, bands=tuple(map(str, range(n_bands))))
    except ValueError:
        pass
    raise InvalidDataset(f"expected square cutouts of 8 to 1024 pixels a side with bands, got {images.shape}")
