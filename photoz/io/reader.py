"""Open cutouts in any supported format: a file, a folder of files, or a pattern such as ``"cutouts/*.fits"``."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.grid import FloatArray
from photoz.io import formats
from photoz.io.columns import ALIASES
from photoz.io.cutouts import Column, Cutouts, LazyImages
from photoz.io.file_list import list_files, stem
from photoz.io.fits import open_fits
from photoz.io.formats import READ_SUFFIXES, Format, read_format
from photoz.io.hdf5 import open_hdf5
from photoz.io.npz import cutouts_of, map_npy, read_npz
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.io.parquet import open_parquet_cutouts
from photoz.io.pasquet import is_pasquet, open_pasquet
from photoz.io.pixel_units import PixelUnit, common_unit
from photoz.io.planes import arrange, check_positions, has_letters
from photoz.io.public_sets import find_piczl, open_piczl
from photoz.io.zarr import open_zarr


@contextmanager
def open_cutouts(path: str | os.PathLike[str], options: ReadOptions = NO_OPTIONS) -> Iterator[Cutouts]:
    """Open cutouts; the context yields them as the file has them (`photoz.io.layout.conform` makes them fit a model).

    Formats are HDF5 (`.h5`, `.hdf5`), `.npz`, also in the layout of Pasquet et al. 2019, `.npy`, FITS (`.fits`, `.fit`,
    also packed as `.gz`, `.bz2` or `.fz`), Zarr (`.zarr`) and Parquet (`.parquet`). Any other folder stands for the
    files of these formats in it. Images of `.npz` files are read into memory; all others stay on disk, and can be read
    inside the `with` block only.

    Raises `UnsupportedType` if the suffix is another one, or the package that reads it is missing, and
    `InvalidDataset` or `MalformedInput` if the file cannot be used.
    """
    try:
        with _open_any(Path(path), options) as cutouts:
            yield replace(cutouts, columns=_named(cutouts, Path(path)))
    except InvalidDataset as error:  # of what is done with the cutouts too
        raise error if str(path) in str(error) else InvalidDataset(f"{path}: {error}") from error


def _open_any(path: Path, options: ReadOptions) -> AbstractContextManager[Cutouts]:
    if path.is_dir() and (images := find_piczl(path)) is not None:
        return nullcontext(open_piczl(path, images))
    if (found := list_files(path)) is not None:
        paths, left_out = found
        cutouts = _join(paths, options)
        cutouts.reading.left_out.extend(left_out)
        return nullcontext(cutouts)
    return _open_file(path, options)


def _open_file(path: Path, options: ReadOptions) -> AbstractContextManager[Cutouts]:
    format = read_format(path)
    if format is None:
        raise UnsupportedType(
            f"cannot read {path.suffix or 'a file without suffix'}: "
            f"expected {', '.join(READ_SUFFIXES[:-1])} or {READ_SUFFIXES[-1]}"
        )
    if options.hdu and format is not formats.FITS:
        raise InvalidDataset(f"--hdu is for FITS files, got {path}: use --column")
    return OPENERS[format](path, options)


def _join(paths: Sequence[Path], options: ReadOptions) -> Cutouts:
    """Join the cutouts of one or more files. Columns that all files have are read now, images when they are sliced.

    A file of a single cutout without an object_id is named after the file; units and zero points may differ. Raises
    `InvalidDataset` if layouts differ otherwise.
    """
    files: list[Cutouts] = []
    tables: list[dict[str, Column]] = []
    for path in paths:
        with _open_file(path, options) as cutouts:
            tables.append(_named(cutouts, path))
            files.append(replace(cutouts, images=_Shape(tuple(cutouts.images.shape)), columns={}))
    if all(file.images.shape[0] == 1 and 1 in file.images.shape[1::2] for file in files) and len(files) > 1:
        return _join_bands(paths, files, tables, options)
    size = 0
    if len({file.images.shape[1:] for file in files}) > 1:
        size = min(min(file.images.shape[axis] for axis in _pixel_axes(file)) for file in files)
    views = [_view(file, files[0], size, path, paths[0]) for path, file in zip(paths, files, strict=True)]
    files = [replace(file, factors=_in_order(file, files[0].bands)) for file in files]
    common = [name for name in tables[0] if all(name in table for table in tables)]
    _check_units(common, files, paths)
    dropped = sorted({name for table in tables for name in table} - set(common))
    lengths = [file.images.shape[0] for file in files]
    cutout = np.empty(files[0].images.shape[1:])[views[0]].shape
    images = LazyImages(
        lambda number, rows: _read_rows(paths[number], options, rows)[:, *views[number]], np.cumsum(lengths), cutout
    )
    columns = {name: np.concatenate([table[name] for table in tables]) for name in common}
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    reading = deepcopy(files[0].reading)
    for file in files[1:]:
        reading.add(file.reading)
    if dropped:
        reading.left_out.append(f"the columns {', '.join(dropped)}, which not all files have")
    return replace(
        files[0],
        images=images,
        columns=columns,
        provenance=f"{len(paths)} files in {folder.name}",
        reading=reading,
        unread={what: names for file in files for what, names in file.unread.items()},
        **_joined_unit(files, [path.name for path in paths], lengths, folder),
    )


def _check_units(columns: Sequence[str], files: Sequence[Cutouts], paths: Sequence[Path]) -> None:
    """Raise `InvalidDataset` if a column has another unit in another file."""
    for name in columns:
        units = [file.column_units.get(name, "") for file in files]
        for unit, path in zip(units, paths, strict=True):
            if unit != units[0]:
                raise InvalidDataset(
                    f"expected the column {name} in one unit, got {units[0] or 'none'} in {paths[0]}, and "
                    f"{unit or 'none'} in {path.name}"
                )


def _in_order(cutouts: Cutouts, bands: tuple[str, ...]) -> FloatArray | None:
    """Return the factors of a file in the order of these bands, as `_view` brings its images."""
    if cutouts.factors is None or cutouts.factors.shape[1] == 1:
        return cutouts.factors
    return cutouts.factors[:, [cutouts.bands.index(band) for band in bands]]


@dataclass(frozen=True)
class _Shape:
    """The shape of images in a file that is closed."""

    shape: tuple[int, ...]

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("the file is closed")


def _joined_unit(
    files: Sequence[Cutouts], names: Sequence[str], lengths: Sequence[int], folder: Path
) -> dict[str, Any]:
    """Return the unit of several files, or factors for each row if they differ."""
    units = [PixelUnit((file.spec or file).unit, file.zero_point) for file in files]
    if all(file.factors is None for file in files):
        unit, worth = common_unit(units, names, folder)
        if worth is None:
            return {"unit": unit.unit, "zero_point": unit.zero_point}
        factors = [np.array([[value]]) for value in worth]
    else:
        factors = [
            np.array([[unit.nanomaggies or np.nan]]) if file.factors is None else file.factors
            for file, unit in zip(files, units, strict=True)
        ]
        if unknown := [name for name, part in zip(names, factors, strict=True) if np.isnan(part).any()]:
            raise InvalidDataset(
                f"expected a flux unit or a zero point for each image in {folder}, {unknown[0]} has none"
            )
    width = max(part.shape[1] for part in factors)
    rows = [np.broadcast_to(part, (n, width)) for part, n in zip(factors, lengths, strict=True)]
    return {"unit": "", "zero_point": None, "factors": np.concatenate(rows)}


def _join_bands(
    paths: Sequence[Path], files: Sequence[Cutouts], tables: Sequence[Mapping[str, Column]], options: ReadOptions
) -> Cutouts:
    """Join files of one image of one band each: those of a galaxy become one cutout."""
    given = ["".join(file.bands) for file in files]
    stems = [stem(path) for path in paths]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    galaxies, bands, numbers = arrange(stems, given if all(given) else [""] * len(given), folder)
    for path, file in zip(paths, files, strict=True):
        _check_layout(replace(file, bands=files[0].bands), files[0], path, paths[0])
    for row in numbers if has_letters(bands) else ():
        check_positions([_position(tables[i]) for i in row], [paths[i].name for i in row], folder)
    shape = tuple(length for length in files[0].images.shape[1:] if length > 1)
    images = LazyImages(
        lambda number, rows: np.stack(
            [_read_rows(paths[i], options, slice(None)).reshape(shape) for i in numbers[number]], axis=-1
        )[np.newaxis][rows],
        np.arange(1, len(numbers) + 1),
        (*shape, len(bands)),
    )
    firsts = [tables[row[0]] for row in numbers]
    common = [name for name in firsts[0] if all(name in table for table in firsts) and name != "object_id"]
    _check_units(common, files, paths)
    columns = {name: np.concatenate([table[name] for table in firsts]) for name in common}
    columns["object_id"] = np.array([galaxy or folder.name for galaxy in galaxies])
    flat = [files[i] for row in numbers for i in row]
    unit = _joined_unit(flat, [paths[i].name for row in numbers for i in row], [1] * len(flat), folder)
    if unit.get("factors") is not None:
        unit["factors"] = unit["factors"].reshape(len(numbers), len(bands))
    reading = deepcopy(files[0].reading)
    reading.used.append(f"files of one band each: {','.join(bands)} of {len(numbers)} galaxies")
    return replace(
        files[0], images=images, columns=columns, bands=tuple(bands), provenance=f"{len(paths)} files in {folder.name}",
        reading=reading, **unit,
    )  # fmt: skip


def _position(table: Mapping[str, Column]) -> FloatArray | None:
    """Return right ascension and declination in degrees, (2, 1), if both are numbers."""
    values = np.array([table.get(name, [""]) for name in ("ra", "dec")])
    return values if values.dtype.kind == "f" else None


def _named(cutouts: Cutouts, path: Path) -> dict[str, Column]:
    """Return the columns; a single cutout without a name has that of its file."""
    columns = dict(cutouts.columns)
    is_named = any(name.lower() in ("object_id", *ALIASES["object_id"]) for name in columns)
    return columns if is_named or len(cutouts) != 1 else {"object_id": np.array([stem(path)]), **columns}


def _read_rows(path: Path, options: ReadOptions, rows: slice) -> npt.NDArray[Any]:
    with _open_file(path, options) as cutouts:
        return np.asarray(cutouts.images[rows])


def _check_layout(cutouts: Cutouts, first: Cutouts, path: Path, first_path: Path) -> None:
    if _layout(cutouts) != _layout(first):
        raise InvalidDataset(
            f"expected files of one layout, got {_layout(first)} in {first_path}; {_layout(cutouts)} in {path}"
        )


def _layout(cutouts: Cutouts) -> str:
    """Describe what has to be the same in all files."""
    spec = cutouts.spec or cutouts
    properties = {
        "images": tuple(cutouts.images.shape[1:]),
        "bands": ",".join(spec.bands),
        "pixel scale": spec.pixel_scale and f"{spec.pixel_scale:.4g}",
    }
    return ", ".join(f"{name} {value}" for name, value in properties.items() if value)


def _pixel_axes(cutouts: Cutouts) -> tuple[int, int]:
    """Return the numbers of the two axes of pixels."""
    n_bands = len((cutouts.spec or cutouts).bands)
    shape = cutouts.images.shape
    return (2, 3) if len(shape) == 4 and shape[1] == n_bands != shape[3] else (1, 2)


def _view(cutouts: Cutouts, first: Cutouts, size: int, path: Path, first_path: Path) -> tuple[Any, ...]:
    """Return the index of a cutout that gives it a size, if that is not 0, and the bands of the first file."""
    bands, order = (cutouts.spec or cutouts).bands, (first.spec or first).bands
    axes = _pixel_axes(cutouts)
    shape, wanted = list(cutouts.images.shape), list(first.images.shape)
    for axis in axes if size else ():
        shape[axis] = wanted[axis] = size
    same = replace(cutouts, images=_Shape(tuple(shape)), bands=order if sorted(bands) == sorted(order) else bands)
    _check_layout(same, replace(first, images=_Shape(tuple(wanted))), path, first_path)
    view: list[Any] = [slice(None)] * 3
    for axis in axes if size else ():
        start = (cutouts.images.shape[axis] - size) // 2
        view[axis - 1] = slice(start, start + size)
    if bands != order:
        view[({1, 2, 3} - set(axes)).pop() - 1] = [bands.index(band) for band in order]
    return tuple(view)


def _open_npz(path: Path, options: ReadOptions) -> AbstractContextManager[Cutouts]:
    if not options.column and is_pasquet(path):
        return nullcontext(open_pasquet(path))
    with path.open("rb") as stream:
        return nullcontext(read_npz(stream, path, options))


OPENERS: Mapping[Format, Callable[[Path, ReadOptions], AbstractContextManager[Cutouts]]] = {
    formats.NPY: lambda path, options: nullcontext(cutouts_of({"images": map_npy(path)}, path, options)),
    formats.NPZ: _open_npz,
    formats.FITS: open_fits,
    formats.HDF5: open_hdf5,
    formats.ZARR: open_zarr,
    formats.PARQUET: open_parquet_cutouts,
}
