"""Columns of galaxies in catalogues and in files of cutouts: their names, units and types."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.io.cutouts import Column, Reading
from photoz.io.units import degrees_per, magnitudes_per, nanomaggies_per, redshifts_per

# Other names of columns in published data sets, in lower case.
ALIASES = {
    "object_id": (
        "objid", "obj_id", "objectid", "targetid", "source_id", "specobjid", "photoobjid", "galaxy_id", "id", "name",
    ),
    "ebv": ("e_bv", "e(b-v)", "ebv_sfd"),
    "z_spec": ("specz_redshift", "redshift", "zspec", "specz", "z"),
    "ra": ("raj2000", "ra_j2000", "_raj2000", "alpha_j2000"),
    "dec": ("dej2000", "dec_j2000", "_dej2000", "delta_j2000", "decl"),
}  # fmt: skip

# Texts for an unknown value.
UNKNOWN = ("", "nan", "none", "null", "<na>")

# The functions that convert units of columns, and the units that they take.
CONVERSIONS: Mapping[str, tuple[Callable[[str], float | None], str]] = {
    "ra": (degrees_per, "deg, rad or h"),
    "dec": (degrees_per, "deg or rad"),
    "ebv": (magnitudes_per, "mag or mmag"),
    "z_spec": (redshifts_per, "redshifts without a unit, which are velocities in km/s divided by 299792.458"),
}

# Identifiers as spreadsheets write them, without their last digits.
ROUNDED_ID = re.compile(r"\d(\.\d+)?[eE]\+?\d+")


@dataclass(frozen=True)
class NamedTable:
    """The columns of a file with n rows, by our names."""

    path: Path  # for errors; `Path()` if they should not name the file
    columns: Mapping[str, Column]  # (n, ...) by name in the file
    names: Mapping[str, str]  # name in the file by our name
    units: Mapping[str, str] = field(default_factory=dict)  # by name in the file, where it gives one

    def __contains__(self, name: str) -> bool:
        return self.names[name] in self.columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def unit(self, name: str) -> str:
        """Return the unit of a column, "" if the file gives none."""
        return self.units.get(self.names[name], "")

    def where(self, name: str) -> str:
        """Return the file and the name of a column in it, for errors."""
        return f"{_prefix(self.path)}column {self.names[name]!r}"

    def factor(self, name: str, value_of: Callable[[str], float | None], expected: str) -> float:
        """Return the value of a column's unit, 1 without one; raises `InvalidDataset` for an unknown unit."""
        if not (unit := self.unit(name)):
            return 1.0
        if (value := value_of(unit)) is None:
            velocities = ": it holds velocities" if re.search(r"/ *s\b|s\W{0,2}-1", unit) else ""
            raise InvalidDataset(f"{self.where(name)} has the unit {unit}{velocities}; expected {expected}")
        return value

    def notes(self, chosen: Collection[str] = ()) -> Iterator[str]:
        """Describe the columns that were found by another name, unless they were chosen, and those converted."""
        for name in ALIASES:
            if name in self and self.names[name].lower() != name and name not in chosen:
                yield f"the column {self.names[name]} is {name}"
        yield from self.conversions(
            [name for name, known in CONVERSIONS.items() if name in self and self.factor(name, *known) != 1.0]
        )

    def conversions(self, names: Collection[str]) -> Iterator[str]:
        """Describe the conversion of columns, a line for each unit."""
        for unit in dict.fromkeys(map(self.unit, names)):
            yield f"converted from {unit}: {','.join(self.names[name] for name in names if self.unit(name) == unit)}"

    def numbers(self, name: str) -> FloatArray:
        """Return a column (n,) as float64, NaN where it is unknown or missing; raises `InvalidDataset` for text.

        Columns of `CONVERSIONS` are in degrees, magnitudes or redshifts.
        """
        import pandas as pd

        if name not in self:
            return np.full(len(self), np.nan)
        factor = self.factor(name, *CONVERSIONS[name]) if name in CONVERSIONS else 1.0
        values = self._column(name)
        if values.dtype.kind in "fiub":
            return np.asarray(values, dtype=np.float64) * factor
        text = np.char.strip(values.astype(str))
        numbers = np.asarray(pd.to_numeric(text, errors="coerce"), dtype=np.float64)
        bad = np.isnan(numbers) & ~np.isin(np.char.lower(text), UNKNOWN)
        if bad.any():
            raise InvalidDataset(
                f"{self.path}: {str(text[bad][0])!r} in column {self.names[name]!r} of row {np.argmax(bad) + 1}: "
                "expected a number, or an empty field where it is unknown"
            )
        return numbers * factor

    def text(self, name: str) -> npt.NDArray[np.str_]:
        """Return a column (n,) as text, "" where it is unknown; raises `InvalidDataset` for rounded integers."""
        values, where = self._column(name), self.where(name)
        if values.dtype.kind == "f":
            text = whole_names(values, where).astype(np.str_)
        else:
            text = np.char.strip(values.astype(str))
            whole_names(np.array([float(word) for word in text if ROUNDED_ID.fullmatch(word)]), where)
        return np.where(np.isin(np.char.lower(text), UNKNOWN), "", text)

    def _column(self, name: str) -> Column:
        values = self.columns[self.names[name]]
        if values.ndim != 1:
            raise InvalidDataset(f"{self.where(name)} has shape {values.shape}; expected one value in each row")
        return values

    def standard(self, name: str) -> Column:
        """Return a column, (n, ...), of its own type in its standard unit; names of galaxies are no floats."""
        values = self.columns[self.names[name]]
        if name == "object_id" and values.dtype.kind == "f":
            return whole_names(values, self.where(name))
        factor = self.factor(name, *CONVERSIONS[name]) if name in CONVERSIONS else 1.0
        return values if factor == 1.0 else np.multiply(values, factor)


def find_names(
    path: Path, columns: Collection[str], names: Mapping[str, str], units: Mapping[str, str]
) -> dict[str, str]:
    """Return `names`, with one of `ALIASES` in place of our own name where a file has only that.

    Raises `InvalidDataset` if several columns may be the same; of several identifiers the first in `ALIASES` is taken.
    """
    result = dict(names)
    used = {name.lower() for name in names.values() if name in columns}
    if len(set("ugriy") & {name.lower() for name in columns}) > 1:
        used.add("z")  # a band
    for name, aliases in ALIASES.items():
        if names.get(name) != name or name in columns:
            continue
        ranks = {alias: rank for rank, alias in enumerate((name, *aliases)) if alias not in used}
        found = [column for column in columns if column.lower() in ranks]
        if name == "z_spec":
            found = [column for column in found if not _is_brightness(units.get(column, ""))]
        if name == "object_id":
            found = sorted(found, key=lambda column: ranks[column.lower()])[:1]
        if len(found) > 1:
            listed = ", ".join(found)
            raise InvalidDataset(
                f"{_prefix(path)}any of the columns {listed} may be {name}: rename one of them to {name}"
            )
        result[name] = found[0] if found else name
    return result


def _is_brightness(unit: str) -> bool:
    return "mag" in unit.lower() or nanomaggies_per(unit) is not None


def _prefix(path: Path) -> str:
    return f"{path}: " if path.name else ""


def standard_columns(
    columns: Mapping[str, Column], units: Mapping[str, str], bands: tuple[str, ...], reading: Reading
) -> dict[str, Column]:
    """Return columns by their standard names, in standard units and types, and note what was done.

    `bands` are those of the images: columns of their names are magnitudes. Raises `InvalidDataset` if several columns
    may be the same, a unit is unknown, or names of galaxies are numbers that have lost digits.
    """
    of_bands = [band for band in bands if band in columns]
    names = {name: name for name in (*ALIASES, *(of_bands if len(of_bands) > 1 else ()))}
    units = {name: unit for name, unit in units.items() if name in columns and columns[name].dtype.kind in "fiu"}
    names = find_names(Path(), columns, names, units)
    ours = {names[name]: name for name in ALIASES if names[name] in columns}
    has_float_ids = "object_id" in columns and columns["object_id"].dtype.kind == "f"
    if not units and not has_float_ids and set(ours) == set(ours.values()):
        return dict(columns)  # as in most requests to the service
    table = NamedTable(Path(), columns, names, units)
    reading.used.extend(table.notes())
    return {ours.get(name, name): table.standard(ours[name]) if name in ours else columns[name] for name in columns}


def plain(values: npt.NDArray[Any]) -> Column:
    """Copy a column of a FITS file or an astropy table: text becomes numpy strings, and masked numbers NaN.

    Integers of which some are masked become text, which keeps all digits; "" is unknown.
    """
    if np.ma.is_masked(values):
        values = np.ma.filled(values, np.nan) if values.dtype.kind == "f" else np.ma.filled(values.astype(str), "")
    array = np.array(values)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "backslashreplace")
    return array.astype(array.dtype.newbyteorder("="))


def whole_names(values: Column, where: str) -> Column:
    """Return names of galaxies in floating point as integers, or as text if some are unknown, "".

    Raises `InvalidDataset`, naming `where` they are, if they are not integers below that to which all are exact.
    """
    limit = 2**53 if values.dtype.itemsize == 8 else 2**24
    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    bad = known[(np.abs(known) >= limit) | (known != np.round(known))]
    if len(bad):
        raise InvalidDataset(
            f"{where} has floating-point numbers, such as {bad[0]:.17g}, which do not hold all digits of an "
            "identifier: write integers or text"
        )
    if len(known) == len(numbers):
        return numbers.astype(np.int64)
    return np.array([f"{value:.0f}" if np.isfinite(value) else "" for value in numbers], dtype=np.str_)
