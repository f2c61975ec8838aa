"""Open cutouts in any supported format: a file, a folder of files, or a pattern such as ``"cutouts/*.fits"``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.io.cutouts import Cutouts
from photoz.io.fits import open_fits
from photoz.io.folder import join_files
from photoz.io.hdf5 import open_hdf5
from photoz.io.npz import map_npy, read_npz
from photoz.io.parquet import open_parquet_cutouts
from photoz.io.pasquet import is_pasquet, open_pasquet
from photoz.io.zarr import open_zarr

PACKED = (".gz", ".bz2", ".fz")
SUFFIXES = (".h5", ".hdf5", ".npz", ".npy", ".fits", ".fit", ".zarr", ".parquet")


@contextmanager
def open_cutouts(path: str | os.PathLike[str]) -> Iterator[Cutouts]:
    """Open cutouts; the context yields them as the file has them (`photoz.io.layout.conform` makes them fit a model).

    Formats are HDF5 (`.h5`, `.hdf5`), `.npz`, also in the layout of Pasquet et al. 2019, `.npy`, FITS (`.fits`, `.fit`,
    also packed as `.gz`, `.bz2` or `.fz`), Zarr (`.zarr`) and Parquet (`.parquet`). Any other folder stands for the
    files of these formats in it. Images of `.npz` files are read into memory; all others stay on disk, and can be read
    inside the `with` block only.

    Raises
    ------
    UnsupportedType
        If the suffix is another one, or the package that reads it is missing.
    InvalidDataset, MalformedInput
        If the file cannot be used.
    """
    path = Path(path)
    if (paths := _several(path)) is not None:
        yield join_files(paths, _open_file)
    else:
        with _open_file(path) as cutouts:
            yield cutouts


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist may stand for others."""
    return not path.exists() and any(letter in str(path) for letter in "*?[")


def _several(path: Path) -> list[Path] | None:
    """Return the files that a folder or a pattern stands for; None for a file."""
    if path.is_dir() and _suffix(path) != ".zarr":
        found = sorted(file for file in path.iterdir() if _suffix(file) in SUFFIXES and not file.name.startswith("."))
        if not found:
            raise InvalidDataset(f"the folder {path} holds no file of the formats {', '.join(SUFFIXES)}")
        return found
    if not is_pattern(path):
        return None
    found = sorted(Path(file) for file in glob(str(path)))
    if not found:
        raise FileNotFoundError(f"no file fits the pattern {path}")
    return found


def _suffix(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.suffix.lower()


@contextmanager
def _open_file(path: Path) -> Iterator[Cutouts]:
    match _suffix(path):
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
        case ".fits" | ".fit":
            with open_fits(path) as cutouts:
                yield cutouts
        case ".zarr":
            with open_zarr(path) as cutouts:
                yield cutouts
        case ".parquet":
            with open_parquet_cutouts(path) as cutouts:
                yield cutouts
        case suffix:
            expected = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
            raise UnsupportedType(f"cannot read {suffix or 'a file without suffix'}: expected {expected}")
