"""Cutouts in many files of one layout, such as a FITS file for each galaxy."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.cutouts import Column, Cutouts, LazyImages

Opener = Callable[[Path], AbstractContextManager[Cutouts]]


def join_files(paths: Sequence[Path], open_file: Opener) -> Cutouts:
    """Join the cutouts of one or more files. Columns that all files have are read now, images when they are sliced.

    A file of a single cutout without an object_id is named after the file. Raises `InvalidDataset` if layouts differ.
    """
    tables: list[dict[str, Column]] = []
    lengths: list[int] = []
    first: Cutouts | None = None
    for path in paths:
        with open_file(path) as cutouts:
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
    images = LazyImages(partial(_read, paths, open_file), np.cumsum(lengths), tuple(first.images.shape[1:]))
    columns = {name: np.concatenate([table[name] for table in tables]) for name in common}
    return replace(first, images=images, columns=columns, provenance=f"{len(paths)} files in {paths[0].parent.name}")


def _read(paths: Sequence[Path], open_file: Opener, number: int, rows: slice) -> npt.NDArray[Any]:
    with open_file(paths[number]) as cutouts:
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
