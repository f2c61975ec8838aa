"""The cutouts of a file, or those of one split of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import IntArray
from photoz.io.cutouts import Cutouts
from photoz.io.reader import open_cutouts


@dataclass(frozen=True)
class _Rows:
    """Chosen rows of images that stay on disk; answers slices."""

    cutouts: Cutouts
    rows: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.cutouts.images.shape[1:])

    def __getitem__(self, key: slice) -> Any:
        return self.cutouts.read_images(self.rows[key])


@contextmanager
def opened(path: Path, split: str | None) -> Iterator[Cutouts]:
    """Open a file of cutouts for as long as the block.

    Parameters
    ----------
    path : Path
        A .npy, .npz or .h5 file.
    split : str or None
        Only the rows whose column 'split' says so.

    Yields
    ------
    Cutouts
        Whose images stay on disk.

    Raises
    ------
    InvalidDataset
        If the file cannot be used, or has no such rows.
    OSError
        If it cannot be read.
    """
    with open_cutouts(path) as cutouts:
        yield cutouts if split is None else _of_split(cutouts, split)


def _of_split(cutouts: Cutouts, split: str) -> Cutouts:
    rows = cutouts.rows(split)
    if not len(rows):
        there = ", ".join(np.unique(cutouts.column("split").astype(str)).tolist())
        raise InvalidDataset(f"no cutout belongs to the split {split!r}; there are {there}")
    columns = {name: values[rows] if values.ndim else values for name, values in cutouts.columns.items()}
    return replace(cutouts, images=_Rows(cutouts, rows), columns=columns)
