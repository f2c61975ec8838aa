"""Read and write labelled cutouts.

The native format is one HDF5 file: `images` (n, size, size, n_bands), one chunk a cutout so that any row is one
read, and the columns beside it. `.npz` files carry the same names; `.npy` files carry images alone. Images stay on
disk until they are sliced wherever the format allows it, so that a set larger than memory can be read.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

import h5py
import numpy as np
import numpy.typing as npt

from photoz.arrays import read_array
from photoz.arrays import read_arrays as read_arrays  # for those who have a file of them
from photoz.cube import PROVENANCE, is_cube, read_cube
from photoz.errors import InvalidDataset, MalformedInput, UnsupportedType, reason
from photoz.images import SDSS_IMAGES, ImageSpec

Column = npt.NDArray[np.generic]

# Columns that have a meaning here; files may hold others.
COLUMNS = ("object_id", "ra", "dec", "ebv", "z_spec", "magnitudes", "split")

TRAIN, VALIDATION, TEST = "train", "validation", "test"


class ImageSource(Protocol):
    """Images in memory or on disk: has a shape and answers integers and slices with arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def __getitem__(self, key: Any) -> Any: ...  # noqa: D105


@dataclass(frozen=True)
class Cutouts:
    """A set of cutouts and what is known of each.

    Parameters
    ----------
    images : (n, size, size, n_bands) array, memory map or HDF5 dataset
        Pixels, unchecked.
    columns : mapping of str to (n, ...) array
        In memory; names as in `COLUMNS`.
    spec : ImageSpec, or None
        What the file says of its images; None where the format cannot say.
    provenance : str
        Where they come from, in words.
    """

    images: ImageSource
    columns: Mapping[str, Column]
    spec: ImageSpec | None = None
    provenance: str = ""

    def __len__(self) -> int:
        return self.images.shape[0]

    def column(self, name: str) -> Column:
        """Return a column that has to be there.

        Parameters
        ----------
        name : str
            Such as "z_spec".

        Returns
        -------
        (n, ...) ndarray
            The column.

        Raises
        ------
        InvalidDataset
            If it is not.
        """
        if name not in self.columns:
            raise InvalidDataset(f"expected a column {name!r}; there are {', '.join(self.columns) or 'none'}")
        return self.columns[name]

    def read_images(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
        """Read the images of some rows into memory.

        Parameters
        ----------
        rows : (m,) int
            Which ones, in any order.

        Returns
        -------
        (m, size, size, n_bands) ndarray
            Unchecked.
        """
        # One by one: h5py takes 30 times as long for an index array, one chunk a row notwithstanding.
        return np.stack([self.images[row] for row in rows])

    def rows(self, split: str) -> npt.NDArray[np.intp]:
        """Return the indices of the cutouts of one split, "train", "validation" or "test"."""
        return np.flatnonzero(self.column("split") == split)


@contextmanager
def open_cutouts(path: str | os.PathLike[str]) -> Iterator[Cutouts]:
    """Open a file of cutouts; images of HDF5 and `.npy` files and of the published cube stay on disk.

    Parameters
    ----------
    path : path-like
        A `.h5`, `.hdf5`, `.npz` or `.npy` file; an `.npz` file may have the layout of Pasquet et al. 2019.

    Yields
    ------
    Cutouts
        Valid inside the `with` block.

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
            with _open_hdf5(path) as file:
                yield _from_hdf5(file, path)
        case ".npz":
            if is_cube(path):
                yield _from_cube(path)
            else:
                with path.open("rb") as stream:
                    yield read_npz(stream)
        case ".npy":
            yield Cutouts(_load_npy(path), {})
        case suffix:
            raise UnsupportedType(f"cannot read {suffix or 'a file without suffix'}: expected .h5, .hdf5, .npz or .npy")


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidDataset(f"{path} is not an HDF5 file: {error}") from error
    with file:
        yield file


def _from_hdf5(file: h5py.File, path: Path) -> Cutouts:
    try:
        found = {name: item for name in file if (item := _dataset(file, name, path)) is not None}
        images = found.pop("images", None)
        if images is None:
            raise InvalidDataset(f"{path} holds no dataset 'images'")
        _check_lengths(images.shape, found)
        columns = {name: _text(item) if _is_text(item) else item[()] for name, item in found.items()}
        return Cutouts(images, columns, _described(file, path), str(file.attrs.get("provenance", "")))
    except InvalidDataset:
        raise
    except Exception as error:  # of a damaged file: RuntimeError, OSError, KeyError, ValueError
        raise InvalidDataset(f"{path} cannot be read: {reason(error)}") from error


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset | None:
    """Return a dataset of a file, None for a group, and refuse what would have HDF5 open other files."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InvalidDataset(f"{name!r} in {path} is a link, perhaps to other files; expected everything in one")
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        return None
    if item.external or item.is_virtual:
        raise InvalidDataset(f"{name!r} in {path} has its values in other files; expected everything in one")
    return item


def _from_cube(path: Path) -> Cutouts:
    images, columns = read_cube(path)
    _check_lengths(images.shape, columns)
    return Cutouts(images, columns, provenance=f"{PROVENANCE} ({path.name})")


def _is_text(dataset: h5py.Dataset) -> bool:
    return h5py.check_string_dtype(dataset.dtype) is not None


def _text(dataset: h5py.Dataset) -> Column:
    """Read text as numpy's own, not as Python objects: those could not be saved without pickle."""
    return np.asarray(dataset.asstr()[()]).astype(np.str_)


def _described(file: h5py.File, path: Path) -> ImageSpec | None:
    if "image_spec" not in file.attrs:
        return None
    try:
        return ImageSpec(**json.loads(file.attrs["image_spec"]))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDataset(f"{path} describes its images in a way that cannot be read: {error}") from error


def _check_lengths(shape: tuple[int, ...], columns: Mapping[str, Column | h5py.Dataset]) -> None:
    if not shape:
        raise InvalidDataset("expected images of shape (n, size, size, n_bands), got a single number")
    for name, values in columns.items():
        if np.ndim(values) and len(values) != shape[0]:
            raise InvalidDataset(f"expected {shape[0]} values of {name!r}, one for each cutout, got {len(values)}")


def _load_npy(path: Path) -> npt.NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # a broken header raises whatever its parser meets, tokenize.TokenError among others
        raise MalformedInput(f"not a readable .npy file of numbers: {error}") from error


def read_npy(stream: BinaryIO) -> Cutouts:
    """Read images from an open `.npy` stream.

    Parameters
    ----------
    stream : binary file, seekable
        Without Python objects in it: those are refused, never unpickled.

    Returns
    -------
    Cutouts
        Images alone.

    Raises
    ------
    MalformedInput
        If it is not a `.npy` file of numbers.
    """
    n_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return Cutouts(read_array(stream, n_bytes), {})


def read_npz(stream: BinaryIO) -> Cutouts:
    """Read cutouts from an open `.npz` stream.

    Parameters
    ----------
    stream : binary file, seekable
        With an array `images`, and any of `COLUMNS`.

    Returns
    -------
    Cutouts
        In memory.

    Raises
    ------
    MalformedInput
        If it is not a `.npz` file of plain arrays.
    InvalidDataset
        If it holds no images, or a column of another length.
    """
    columns = read_arrays(stream)
    if "images" not in columns:
        raise InvalidDataset(f"expected an array 'images' in the .npz file; it holds {', '.join(columns) or 'none'}")
    images = columns.pop("images")
    _check_lengths(images.shape, columns)
    return Cutouts(images, columns)


def npz_bytes(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Pack arrays as the bytes of an uncompressed `.npz` file: noise does not compress."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@contextmanager
def create_hdf5(
    path: str | os.PathLike[str], n: int, spec: ImageSpec = SDSS_IMAGES, provenance: str = ""
) -> Iterator[h5py.File]:
    """Create a native file to be filled; it takes its name only when the block ends without an error.

    Parameters
    ----------
    path : path-like
        Where the file shall be; its folder is made.
    n : int
        Number of cutouts.
    spec : ImageSpec
        What they are.
    provenance : str
        Where they come from, in words.

    Yields
    ------
    h5py.File
        With an empty dataset `images`; write columns with `write_columns`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{uuid4().hex}")  # not mkstemp, whose files only their owner may read
    try:
        with h5py.File(scratch, "w") as file:
            file.attrs["image_spec"] = json.dumps(_spec_fields(spec))
            file.attrs["provenance"] = provenance
            file.create_dataset("images", (n, *spec.shape), np.float32, chunks=(1, *spec.shape))
            yield file
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _spec_fields(spec: ImageSpec) -> dict[str, Any]:
    return {"size": spec.size, "bands": spec.bands, "pixel_scale": spec.pixel_scale, "unit": spec.unit}


def write_columns(file: h5py.File, columns: Mapping[str, npt.ArrayLike]) -> None:
    """Write columns beside the images; text becomes UTF-8."""
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind == "U":
            file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
        else:
            file.create_dataset(name, data=array)
