"""Open a file of cutouts in any supported format."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from photoz.errors import UnsupportedType
from photoz.io.cutouts import Cutouts
from photoz.io.hdf5 import open_hdf5
from photoz.io.npz import map_npy, read_npz
from photoz.io.pasquet import is_pasquet, open_pasquet


@contextmanager
def open_cutouts(path: str | os.PathLike[str]) -> Iterator[Cutouts]:
    """Open a `.h5`, `.hdf5`, `.npz` or `.npy` file; the context yields its cutouts.

    An `.npz` file may have the layout of Pasquet et al. 2019. Images of that layout, of HDF5 and of `.npy` files stay
    on disk, and can be read inside the `with` block only.

    Raises
    ------
    UnsupportedType
        If the suffix is another one.
    InvalidDataset, MalformedInput
        If the file cannot be used.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".h5" | ".hdf5":
            with open_hdf5(path) as cutouts:
                yield cutouts
        case ".npz":
            if is_pasquet(path):
                yield open_pasquet(path)
            else:
                with path.open("rb") as stream:
                    yield read_npz(stream)
        case ".npy":
            yield Cutouts(map_npy(path), {})
        case suffix:
            raise UnsupportedType(f"cannot read {suffix or 'a file without suffix'}: expected .h5, .hdf5, .npz or .npy")
