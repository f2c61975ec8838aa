"""Lists of galaxies: positions and other columns."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.coordinates import Angle

from photoz.errors import InvalidDataset, InvalidEbv, InvalidInput, PhotozError
from photoz.grid import FloatArray
from photoz.images import as_reddening
from photoz.io.catalogue_files import read_table
from photoz.io.columns import NamedTable, find_names
from photoz.io.cutouts import Column

# Columns with a meaning here; other columns of a list are passed on.
NAMES = ("object_id", "ra", "dec", "z_spec", "ebv")

# Names in the file of cutouts that are no columns.
RESERVED = {"images", "planes"}

SEXAGESIMAL = re.compile(r"\s*[-+]?\d{1,3}[:hd ]\d{1,2}[:m\' ]\d{1,2}(\.\d*)?[s\"]?\s*")

# `split` is text, as `object_id` is.
TEXT = ("object_id", "split")


@dataclass(frozen=True)
class Targets:
    """n galaxies."""

    object_id: npt.NDArray[np.str_]  # (n,), all different
    ra: FloatArray  # (n,), degrees, ICRS
    dec: FloatArray  # (n,)
    z_spec: FloatArray  # (n,), NaN if unknown
    ebv: FloatArray  # (n,), E(B-V) in mag on the scale of SFD, NaN if unknown
    others: Mapping[str, Column] = field(default_factory=dict)  # other columns of a list or a catalogue, (n, ...) each
    notes: tuple[str, ...] = ()  # columns that were renamed or converted, in words

    def __len__(self) -> int:
        return len(self.ra)

    @classmethod
    def of(cls, ra: float, dec: float, name: str | None = None) -> "Targets":
        """Return the galaxy at a position, called by its name or position; raises `InvalidInput` off the sky."""
        unknown = np.full(1, np.nan)
        _check_positions("the position", np.array([ra]), np.array([dec]), InvalidInput)
        object_id = np.array([name or f"{ra:.5f}{dec:+.5f}"])
        return cls(object_id, np.array([ra]), np.array([dec]), unknown, unknown)

    def columns(self) -> dict[str, Column]:
        """Return all columns, (n, ...) each, by name."""
        return {name: getattr(self, name) for name in NAMES} | dict(self.others)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Targets":
        """Return some of the galaxies."""
        known = {name: getattr(self, name)[rows] for name in NAMES}
        return Targets(**known, others={name: values[rows] for name, values in self.others.items()})

    def with_ebv(self, ebv: FloatArray) -> "Targets":
        """Return a copy with unknown E(B-V) replaced by `ebv`, (n,)."""
        return replace(self, ebv=np.where(np.isnan(self.ebv), ebv, self.ebv))


def read_targets(path: Path) -> Targets:
    """Read a list of positions in any format of `photoz.io.catalogue_files`.

    It has columns `ra` and `dec`, in degrees or with another unit, and may have `object_id`, `z_spec`, `ebv` and
    others. Raises `InvalidDataset` if positions are missing or invalid.
    """
    table = read_table(path, {name: name for name in (*NAMES, *TEXT)})
    return as_targets(path, table.columns, table.units)


def as_targets(source: Path, columns: Mapping[str, Column], units: Mapping[str, str] | None = None) -> Targets:
    """Return the galaxies of a table with columns (n, ...), as `read_targets`; errors name `source`."""
    units = units or {}
    names = find_names(source, columns, {name: name for name in NAMES}, units)
    table = NamedTable(source, columns, names, units)
    if missing := [name for name in ("ra", "dec") if name not in table]:
        raise InvalidDataset(f"{source} lacks {' and '.join(missing)} in degrees; it has {', '.join(table.columns)}")
    if reserved := RESERVED & (columns.keys() - names.values()):
        raise InvalidDataset(f"{source} has a column {reserved.pop()!r}, as the file of cutouts has: rename it")
    ra, dec = _degrees(table, "ra"), _degrees(table, "dec")
    _check_positions(source, ra, dec)
    try:
        as_reddening(table.numbers("ebv"), len(ra))
    except InvalidEbv as error:
        raise InvalidDataset(f"{source}: {error}; leave it empty where it is unknown") from error
    object_id = table.text("object_id") if "object_id" in table else np.arange(len(ra)).astype(str)
    if repeated := [name for name, n in Counter(object_id.tolist()).items() if n > 1]:
        raise InvalidDataset(f"{source} has the object_id {repeated[0]!r} more than once: expected one for each row")
    others = {name: _plain(values) for name, values in columns.items() if name not in names.values()}
    notes = tuple(table.notes())
    return Targets(object_id, ra, dec, table.numbers("z_spec"), table.numbers("ebv"), others, notes)


def _degrees(table: NamedTable, name: str) -> FloatArray:
    """Return a column (n,), which may be sexagesimal: RA in hours, minutes and seconds."""
    values = table.columns[table.names[name]].astype(str)
    if not all(map(SEXAGESIMAL.fullmatch, values)):
        return table.numbers(name)
    return np.asarray(Angle(values, "hourangle" if name == "ra" else "deg").deg)


def _plain(values: Column) -> Column:
    return values if values.dtype.kind in "fiub" else values.astype(str)


def _check_positions(
    source: object, ra: FloatArray, dec: FloatArray, error: type[PhotozError] = InvalidDataset
) -> None:
    bad = ~((ra >= 0.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise error(
            f"{source}: expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got {ra[row]:g} {dec[row]:g} in row "
            f"{row + 1}"
        )
