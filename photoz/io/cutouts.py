"""Labelled cutouts: images, in memory or on disk, and a column for each thing that is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.images import ImageSpec

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


def check_lengths(shape: tuple[int, ...], columns: Mapping[str, Any]) -> None:
    """Raise `InvalidDataset` if a column has another length than the images."""
    if not shape:
        raise InvalidDataset("expected images of shape (n, size, size, n_bands), got a single number")
    for name, values in columns.items():
        if np.ndim(values) and len(values) != shape[0]:
            raise InvalidDataset(f"expected {shape[0]} values of {name!r}, one for each cutout, got {len(values)}")
