"""Open cutouts in any supported format: a file, a folder of files, or a pattern such as ``"cutouts/*.fits"``."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.io import formats
from photoz.io.cutouts import Column, Cutouts, LazyImages
from photoz.io.fits import open_fits
from photoz.io.formats import READ_SUFFIXES, Format, read_format
from photoz.io.hdf5 import open_hdf5
from photoz.io.npz import map_npy, read_npz
from photoz.io.parquet import open_parquet_cutouts
from photoz.io.pasquet import is_pasquet, open_pasquet
from photoz.io.public_sets import find_piczl, open_piczl
from photoz.io.zarr import open_zarr


@contextmanager
def open_cutouts(path: str | os.PathLike[str]) -> Iterator[Cutouts]:
    """Open cutouts; the context yields them as the file has them (`photoz.io.layout.conform` makes them fit a model).

    Formats are HDF5 (`.h5`, `.hdf5`), `.npz`, also in the layout of Pasquet et al. 2019, `.npy`, FITS (`.fits`, `.fit`,
    also packed as `.gz`, `.bz2` or `.fz`), Zarr (`.zarr`) and Parquet (`.parquet`). Any other folder stands for the
    files of these formats in it. Images of `.npz` files are read into memory; all others stay on disk, and can be read
    inside the `with` block only.

    Raises `UnsupportedType` if the suffix is another one, or the package that reads it is missing, and
    `InvalidDataset` or `MalformedInput` if the file cannot be used.
    """
    path = Path(path)
    if path.is_dir() and (images := find_piczl(path)) is not None:
        yield open_piczl(path, images)
    elif (paths := _several(path)) is not None:
        yield _join(paths)
    else:
        with _open_file(path) as cutouts:
            yield cutouts


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist may stand for others."""
    return not path.exists() and any(letter in str(path) for letter in "*?[")


def _several(path: Path) -> list[Path] | None:
    """Return the files of a folder or a pattern; None for a single file."""
    if path.is_dir() and read_format(path) is not formats.ZARR:
        folders = (path, *path.glob("healpix=*"))
        files = sorted(
            file for folder in folders for file in folder.iterdir() if read_format(file) and file.name[0] != "."
        )
        if not files:
            raise InvalidDataset(f"the folder {path} holds no file of the formats {', '.join(READ_SUFFIXES)}")
        return files
    if not is_pattern(path):
        return None
    files = sorted(Path(file) for file in glob(str(path)))
    if not files:
        raise FileNotFoundError(f"no file fits the pattern {path}")
    return files


def _open_file(path: Path) -> AbstractContextManager[Cutouts]:
    format = read_format(path)
    if format is None:
        raise UnsupportedType(
            f"cannot read {path.suffix or 'a file without suffix'}: "
            f"expected {', '.join(READ_SUFFIXES[:-1])} or {READ_SUFFIXES[-1]}"
        )
    return OPENERS[format](path)


def _join(paths: Sequence[Path]) -> Cutouts:
    """Join the cutouts of one or more files. Columns that all files have are read now, images when they are sliced.

    A file of a single cutout without an object_id is named after the file. Raises `InvalidDataset` if layouts differ.
    """
    tables: list[dict[str, Column]] = []
    lengths: list[int] = []
    first: Cutouts | None = None
    for path in paths:
        with _open_file(path) as cutouts:
            first = first or cutouts
            if _layout(cutouts) != _layout(first):
                raise InvalidDataset(
                    f"expected files of one layout, got {_layout(first)} in {paths[0]}; {_layout(cutouts)} in {path}"
                )
            named = {"object_id": np.array([path.name.partition(".")[0]])} if len(cutouts) == 1 else {}
            tables.append(named | dict(cutouts.columns))
            lengths.append(len(cutouts))
    assert first is not None
    common = [name for name in tables[0] if all(name in table for table in tables)]
    images = LazyImages(partial(_read_rows, paths), np.cumsum(lengths), tuple(first.images.shape[1:]))
    columns = {name: np.concatenate([table[name] for table in tables]) for name in common}
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return replace(first, images=images, columns=columns, provenance=f"{len(paths)} files in {folder.name}")


def _read_rows(paths: Sequence[Path], number: int, rows: slice) -> npt.NDArray[Any]:
    with _open_file(paths[number]) as cutouts:
        return np.asarray(cutouts.images[rows])


def _layout(cutouts: Cutouts) -> str:
    """Describe what has to be the same in all files."""
    spec = cutouts.spec or cutouts
    properties = {
        "images": tuple(cutouts.images.shape[1:]),
        "bands": ",".join(spec.bands),
        "unit": spec.unit,
        "zero point": cutouts.zero_point,
        "pixel scale": spec.pixel_scale and f"{spec.pixel_scale:.4g}",
    }
    return ", ".join(f"{name} {value}" for name, value in properties.items() if value)


def _open_npz(path: Path) -> AbstractContextManager[Cutouts]:
    if is_pasquet(path):
        return nullcontext(open_pasquet(path))
    with path.open("rb") as stream:
        return nullcontext(read_npz(stream))


OPENERS: Mapping[Format, Callable[[Path], AbstractContextManager[Cutouts]]] = {
    formats.NPY: lambda path: nullcontext(Cutouts(map_npy(path), {})),
    formats.NPZ: _open_npz,
    formats.FITS: open_fits,
    formats.HDF5: open_hdf5,
    formats.ZARR: open_zarr,
    formats.PARQUET: open_parquet_cutouts,
}
