"""The files that the command `photoz` reads and writes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import IntArray, RedshiftGrid
from photoz.io.cutouts import Cutouts
from photoz.io.tables import PASSED_COLUMNS, ResultTable, json_bytes, result_table
from photoz.io.writer import open_table, write_table
from photoz_client._prediction import Prediction


def select_split(cutouts: Cutouts, split: str) -> Cutouts:
    """Return the cutouts of one split; images stay on disk."""
    rows = cutouts.rows(split)
    if not len(rows):
        found = ", ".join(np.unique(cutouts.column("split").astype(str)).tolist())
        raise InvalidDataset(f"no cutout belongs to the split {split!r}; the file has {found}")
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


@dataclass(frozen=True)
class Results:
    """How to write a prediction: its PDFs as they are, or quantiles of them, and columns of the cutouts."""

    grid: RedshiftGrid
    quantiles: tuple[float, ...]
    cutouts: Cutouts

    def print_json(self, prediction: Prediction, rows: IntArray) -> None:
        """Print a prediction for some rows of the cutouts, as a .json file has it."""
        click.echo(json_bytes(self._table(prediction, rows), prediction.model))

    def write(self, path: Path, prediction: Prediction, rows: IntArray) -> None:
        """Write a prediction for some rows of the cutouts."""
        write_table(self._table(prediction, rows), path)
        _report(len(prediction), path)

    def _table(self, prediction: Prediction, rows: IntArray) -> ResultTable:
        columns = self.cutouts.columns
        found = [name for name in PASSED_COLUMNS if name in columns and columns[name].ndim == 1]
        passed = {name: columns[name][rows] for name in found}
        return result_table(prediction, prediction.model, self.grid, self.quantiles, passed)

    def write_parts(self, path: Path, parts: Iterator[tuple[IntArray, Prediction]]) -> None:
        """Write the parts of a prediction as they arrive, even if an error ends them; no rows, no file."""
        n = 0
        try:
            first = next(parts)
            with open_table(path) as write:
                for rows, part in chain([first], parts):
                    write(self._table(part, rows))
                    n += len(part)
        finally:
            if n:
                _report(n, path)


def _report(n: int, path: Path) -> None:
    click.echo(f"wrote {n} rows to {path}", err=True)
