"""Cutouts in many files of one layout, such as a FITS file for each galaxy."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.io.cutouts import Column, Cutouts

Opener = Callable[[Path], AbstractContextManager[Cutouts]]


@dataclass(frozen=True)
class _Files:
    """Images of several files, which are opened when they are sliced."""

    open: Opener
    paths: Sequence[Path]
    stops: npt.NDArray[np.intp]  # (n_files,) rows up to the end of each file
    cutout: tuple[int, ...]  # shape of one cutout

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.stops[-1]), *self.cutout)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        if not isinstance(key, slice):
            return np.asarray(self[int(key) : int(key) + 1][0])
        start, stop, step = key.indices(self.shape[0])
        parts = []
        first, last = np.searchsorted(self.stops, [start, max(stop - 1, start)], side="right")
        for number in range(first, last + 1 if stop > start else first):
            begin = int(self.stops[number - 1]) if number else 0
            with self.open(self.paths[number]) as cutouts:
                parts.append(np.asarray(cutouts.images[max(start - begin, 0) : stop - begin]))
        return np.concatenate(parts)[::step] if parts else np.empty((0, *self.cutout), np.float32)


def join_files(paths: Sequence[Path], open_file: Opener) -> Cutouts:
    """Join the cutouts of one or more files; only columns are read now, and those that all files have are kept.

    A file of a single cutout without an object_id is named after the file. Raises `InvalidDataset` if layouts differ.
    """
    columns: list[dict[str, Column]] = []
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
            columns.append(named | dict(cutouts.columns))
            lengths.append(len(cutouts))
    assert first is not None
    common = [name for name in columns[0] if all(name in one for one in columns)]
    images = _Files(open_file, paths, np.cumsum(lengths), tuple(first.images.shape[1:]))
    joined = {name: np.concatenate([one[name] for one in columns]) for name in common}
    return replace(first, images=images, columns=joined, provenance=f"{len(paths)} files in {paths[0].parent.name}")


def _layout(cutouts: Cutouts) -> str:
    """Describe what has to be the same in all files."""
    spec = cutouts.spec or cutouts
    found = {"bands": ",".join(spec.bands), "unit": spec.unit, "zero point": cutouts.zero_point}
    found["pixel scale"] = spec.pixel_scale and f"{spec.pixel_scale:.4g}"
    said = [f"{name} {value}" for name, value in found.items() if value]
    return ", ".join([f"images {tuple(cutouts.images.shape[1:])}", *said])
