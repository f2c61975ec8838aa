"""Labelled cutouts: images, in memory or on disk, and columns with the properties of each galaxy."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, PhotozError, reason
from photoz.grid import FloatArray
from photoz.images import ImageSpec

Column = npt.NDArray[np.generic]

# Columns with a defined meaning; files may hold others.
COLUMNS = ("object_id", "ra", "dec", "ebv", "z_spec", "magnitudes", "split")

TRAIN, VALIDATION, TEST = "train", "validation", "test"


class ImageSource(Protocol):
    """Images in memory or on disk, with a shape and indexing by integers and slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def __getitem__(self, key: Any) -> Any: ...  # noqa: D105


@dataclass(frozen=True)
class LazyImages:
    """Images in one or more pieces, such as files, which are read when they are sliced."""

    read: Callable[[int, slice], npt.NDArray[Any]]  # reads rows (m, ...) of a piece, given its number
    stops: npt.NDArray[np.intp]  # (n_pieces,) rows up to the end of each piece
    cutout: tuple[int, ...]  # shape of one cutout

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cutouts and shape of each."""
        return (int(self.stops[-1]) if len(self.stops) else 0, *self.cutout)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        rows = range(self.shape[0])[key]
        if isinstance(rows, int):
            return np.asarray(self[rows : rows + 1][0])
        if not rows:
            return np.empty((0, *self.cutout), np.float32)
        low, high = min(rows), max(rows) + 1
        first, last = np.searchsorted(self.stops, [low, high - 1], side="right")
        parts = []
        for number in range(first, last + 1):
            start = int(self.stops[number - 1]) if number else 0
            parts.append(self.read(number, slice(max(low - start, 0), high - start)))
        return (np.concatenate(parts) if len(parts) > 1 else parts[0])[:: rows.step]


@dataclass(frozen=True)
class Reading:
    """What was done with a file, in words."""

    used: list[str] = field(default_factory=list)  # what it says, and what follows from it
    assumed: list[str] = field(default_factory=list)  # what it does not say
    left_out: list[str] = field(default_factory=list)  # what it holds and nothing was done with

    def add(self, other: "Reading") -> None:
        """Add the statements of another file that are new."""
        for texts, more in zip(vars(self).values(), vars(other).values(), strict=True):
            texts += [text for text in more if text not in texts]

    def lines(self) -> list[str]:
        """Return a line for each statement."""
        names = {"used": self.used, "assumed": self.assumed, "left out": self.left_out}
        return [f"{name}: {text}" for name, texts in names.items() for text in texts]


@dataclass(frozen=True)
class Cutouts:
    """A set of cutouts; raises `InvalidDataset` if a column has another length than the images."""

    images: ImageSource  # (n, size, size, n_bands) array, memory map or dataset, not validated; bands may come first
    columns: Mapping[str, Column]  # (n, ...) each, in memory; names as in `COLUMNS`
    spec: ImageSpec | None = None  # None if the format has none
    provenance: str = ""  # their source, for people
    name: str = "images"  # in their file, for errors
    # What a file without a spec says about its images, for `photoz.io.layout`.
    bands: tuple[str, ...] = ()  # in the order of their axis
    unit: str = ""  # of the pixels
    zero_point: float | None = None  # AB magnitude of a pixel with the value 1
    factors: FloatArray | None = None  # (n or 1, n_bands or 1) nanomaggies of such a pixel, where they differ
    pixel_scale: float | None = None  # arcseconds
    column_units: Mapping[str, str] = field(default_factory=dict)  # by column
    unread: Mapping[str, list[str]] = field(default_factory=dict)  # names that may say more, see `photoz.io.unread`
    reading: Reading = field(default_factory=Reading)  # so far
    flags: int = 0  # bits of `photoz.flags.Flag` for all estimates of these cutouts

    def __post_init__(self) -> None:
        check_lengths(self.images.shape, self.columns)

    def __len__(self) -> int:
        return self.images.shape[0]

    def column(self, name: str) -> Column:
        """Return a column, (n, ...); raises `InvalidDataset` if it is missing."""
        if name not in self.columns:
            raise InvalidDataset(f"expected a column {name!r}; there are {', '.join(self.columns) or 'none'}")
        return self.columns[name]

    def read_images(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
        """Read the images of rows (m,), in any order, into memory: (m, size, size, n_bands), not validated."""
        # One by one: h5py takes 30 times as long for an index array, even with one chunk per row.
        return np.stack([self.images[row] for row in rows])

    def rows(self, split: str) -> npt.NDArray[np.intp]:
        """Return the indices of the cutouts of one split, "train", "validation" or "test"."""
        return np.flatnonzero(self.column("split") == split)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Raise `InvalidDataset` with these words and the reason for what a library raises, such as of a damaged file.

    Errors of ours, and a lack of memory, pass through.
    """
    try:
        yield
    except (PhotozError, MemoryError):
        raise
    except Exception as error:  # libraries raise OSError, ValueError, TypeError, KeyError, zlib.error and others
        raise InvalidDataset(f"{what}: {reason(error)}") from error


def check_lengths(shape: tuple[int, ...], columns: Mapping[str, Any]) -> None:
    """Raise `InvalidDataset` if a column has another length than the images."""
    if not shape:
        raise InvalidDataset("expected images of shape (n, size, size, n_bands), got a single number")
    for name, values in columns.items():
        if np.ndim(values) and len(values) != shape[0]:
            raise InvalidDataset(f"expected {shape[0]} values of {name!r}, one for each cutout, got {len(values)}")
