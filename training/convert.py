"""Write the published cube as a native file, in one pass from front to end."""

from pathlib import Path

from tqdm import tqdm

from photoz.cube import PROVENANCE, is_cube, stream_cube
from photoz.datasets import create_hdf5, write_columns
from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES

# Kinds of numpy types that HDF5 takes: booleans, numbers, bytes and text.
KINDS = "biufSU"


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
