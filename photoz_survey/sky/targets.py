"""Positions of galaxies, and what is known about them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.io.catalogue_files import NamedTable, read_table
from photoz.io.layout import ALIASES

FIELD_COLUMNS = ("run", "rerun", "camcol", "field")


@dataclass(frozen=True)
class Targets:
    """n galaxies."""

    object_id: npt.NDArray[np.str_]  # (n,), all different
    ra: FloatArray  # (n,), degrees, ICRS
    dec: FloatArray  # (n,)
    z_spec: FloatArray  # (n,), NaN where it is unknown
    ebv: FloatArray  # (n,), E(B-V) in magnitudes on the scale of SFD, NaN where it is unknown
    fields: npt.NDArray[np.int64]  # (n, 4), `FIELD_COLUMNS` of the frames; -1 where they are unknown

    def __len__(self) -> int:
        return len(self.ra)

    @classmethod
    def of(cls, ra: float, dec: float) -> "Targets":
        """Return a single position, of which nothing else is known."""
        unknown = np.full(1, np.nan)
        fields = np.full((1, len(FIELD_COLUMNS)), -1)
        return cls(np.array(["0"]), np.array([ra]), np.array([dec]), unknown, unknown, fields)


def read_targets(path: Path) -> Targets:
    """Read a list of positions in any format of `photoz.io.catalogue_files`.

    It has columns `ra` and `dec` in degrees, and may have `object_id`, `z_spec`, `ebv`, and the fields of the galaxies:
    `run`, `rerun`, `camcol` and `field`. Raises `InvalidDataset` if it lacks positions, or has wrong ones.
    """
    plain = {name: name for name in ("ra", "dec", "object_id", "split", *FIELD_COLUMNS)}
    table = read_table(path, plain | {"z_spec": "z_spec", "ebv": "ebv"})
    lower = {name.lower(): name for name in table.columns}
    names = {ours: _find(lower, ours) for ours in table.names}
    return _as_targets(NamedTable(path, table.columns, names))


def _find(columns: dict[str, str], name: str) -> str:
    """Return the column that stands for one of ours, or our own name if there is none."""
    return next((columns[one] for one in (name, *ALIASES.get(name, ())) if one in columns), name)


def _as_targets(table: NamedTable) -> Targets:
    if missing := [name for name in ("ra", "dec") if name not in table]:
        raise InvalidDataset(
            f"{table.path} lacks {' and '.join(missing)} in degrees; it has {', '.join(table.columns)}"
        )
    ra, dec = table.numbers("ra"), table.numbers("dec")
    bad = ~((ra >= 0.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidDataset(
            f"{table.path}: expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got {ra[row]:g} {dec[row]:g} in row "
            f"{row + 1}"
        )
    names = table.text("object_id") if "object_id" in table else np.arange(len(ra)).astype(str)
    if repeated := [name for name, n in Counter(names.tolist()).items() if n > 1]:
        raise InvalidDataset(
            f"{table.path} has the object_id {repeated[0]!r} more than once: expected one for each row"
        )
    numbers = np.column_stack([table.numbers(name) for name in FIELD_COLUMNS])
    fields = np.where(np.isfinite(numbers), numbers, -1).astype(np.int64)
    return Targets(names, ra, dec, table.numbers("z_spec"), table.numbers("ebv"), fields)
