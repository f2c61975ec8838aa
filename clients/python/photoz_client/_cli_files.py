"""The files that the command `photoz` reads and writes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import IntArray
from photoz.io.cutouts import Column, Cutouts
from photoz.io.tables import PASSED_COLUMNS, ResultTable
from photoz.io.writer import open_table


def select_split(cutouts: Cutouts, split: str) -> Cutouts:
    """Return the cutouts of one split; images stay on disk."""
    rows = cutouts.rows(split)
    if not len(rows):
        splits = ", ".join(np.unique(cutouts.column("split").astype(str)).tolist())
        raise InvalidDataset(f"no cutout belongs to the split {split!r}; the file has {splits}")
    columns = {name: values[rows] if values.ndim else values for name, values in cutouts.columns.items()}
    return replace(cutouts, images=_SelectedImages(cutouts, rows), columns=columns)


@dataclass(frozen=True)
class _SelectedImages:
    """Some rows of the images of a file, read when they are sliced."""

    cutouts: Cutouts
    rows: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.cutouts.images.shape[1:])

    def __getitem__(self, key: slice) -> Any:
        return self.cutouts.read_images(self.rows[key])


def passed_columns(cutouts: Cutouts, rows: IntArray) -> Mapping[str, Column]:
    """Return the columns of some rows (m,) of the cutouts that are written beside the estimates, (m,) each."""
    columns = cutouts.columns
    return {name: columns[name][rows] for name in PASSED_COLUMNS if name in columns and columns[name].ndim == 1}


def write_parts(tables: Iterator[ResultTable], path: Path) -> None:
    """Write the parts of a table as they arrive, even if an error ends them; without any part there is no file."""
    n = 0
    try:
        first = next(tables)
        with open_table(path) as write:
            for table in chain([first], tables):
                write(table)
                n += len(table.values["object_id"])
    finally:
        if n:
            click.echo(f"wrote {n} {'row' if n == 1 else 'rows'} to {path}", err=True)
