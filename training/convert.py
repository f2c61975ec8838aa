"""Write the published cube, or a pickle of cutouts, as a native file."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.pasquet import PROVENANCE, is_cube, stream_cube
from training.pickles import Array, read_pickle

# Kinds of numpy types that HDF5 takes: booleans, numbers, bytes and text.
KINDS = "biufSU"

BLOCK = 256  # cutouts that are written at a time


def convert_cube(source: Path, target: Path) -> int:
    """Write the cube of Pasquet et al. 2019 as HDF5; a few cutouts are in memory at a time.

    Parameters
    ----------
    source : Path
        An `.npz` file with `cube` and `labels`, compressed or not.
    target : Path
        The HDF5 file to be; it appears when it is complete.

    Returns
    -------
    int
        Number of cutouts.

    Raises
    ------
    InvalidDataset
        If the source is something else, or damaged, or not of SDSS's cutouts.
    """
    if not is_cube(source):
        raise InvalidDataset(f"expected an .npz file with arrays 'cube' and 'labels', got {source}")
    shape, columns, blocks = stream_cube(source)
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


def convert_pickle(source: Path, target: Path) -> int:
    """Write a pickle of labelled cutouts as HDF5; it is in memory whole.

    A pickle does not say what its bands are. Nor does the file that comes of it: name them when you train on it.

    Parameters
    ----------
    source : Path
        As `read_pickle` takes it: plain numpy arrays, of which nothing is run.
    target : Path
        The HDF5 file to be; it appears when it is complete.

    Returns
    -------
    int
        Number of cutouts.

    Raises
    ------
    MalformedInput
        If the source is not a pickle, or asks for anything but arrays of numbers and text.
    InvalidDataset
        If it holds something else than labelled cutouts.
    """
    columns = read_pickle(source)
    images = columns.pop("images")
    provenance = f"pickled arrays ({source.name})"
    with create_hdf5(target, len(images), _unnamed(images), provenance) as file:
        del file.attrs["image_spec"]
        for start in range(0, len(images), BLOCK):
            with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, that is, masked
                file["images"][start : start + BLOCK] = images[start : start + BLOCK].astype(np.float32)
        write_columns(file, columns)
    return len(images)


def _unnamed(images: Array) -> ImageSpec:
    """Describe images whose bands have numbers for names."""
    try:
        return ImageSpec(size=images.shape[1], bands=tuple(map(str, range(images.shape[3]))))
    except ValueError as error:
        raise InvalidDataset(f"expected cutouts of 8 to 1024 pixels a side with bands, got {images.shape}") from error
