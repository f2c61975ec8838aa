"""The files that the command `photoz` reads and writes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import IntArray
from photoz.io.cutouts import Cutouts
from photoz.io.npz import npz_bytes
from photoz.io.reader import open_cutouts
from photoz.io.tables import csv_bytes, json_bytes
from photoz_client._prediction import Prediction


@contextmanager
def open_split(path: Path, split: str | None) -> Iterator[Cutouts]:
    """Open a file of cutouts, or only the rows of one split; images stay on disk."""
    with open_cutouts(path) as cutouts:
        yield cutouts if split is None else _select_split(cutouts, split)


def _select_split(cutouts: Cutouts, split: str) -> Cutouts:
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


def _npz_bytes(prediction: Prediction) -> bytes:
    return npz_bytes({**dict(prediction.columns()), "model": np.array(prediction.model)})


FILE_FORMATS: dict[str, Callable[[Prediction], bytes]] = {
    ".csv": csv_bytes,
    ".json": lambda prediction: json_bytes(prediction, prediction.model),
    ".npz": _npz_bytes,
}


def write(prediction: Prediction, path: Path) -> None:
    """Write a prediction to a file in the format of its suffix."""
    path.write_bytes(FILE_FORMATS[path.suffix.lower()](prediction))
    _report(len(prediction), path)


def write_csv_parts(parts: Iterable[tuple[IntArray, Prediction]], path: Path) -> None:
    """Write the parts of a prediction to a `.csv` file as they arrive, even if an error ends them; no rows, no file."""
    n = 0
    try:
        for _, prediction in parts:
            head, _, lines = csv_bytes(prediction).partition(b"\n")
            with path.open("ab" if n else "wb") as file:
                file.write(lines if n else head + b"\n" + lines)
            n += len(prediction)
    finally:
        if n:
            _report(n, path)


def _report(n: int, path: Path) -> None:
    click.echo(f"wrote {n} rows to {path}", err=True)
