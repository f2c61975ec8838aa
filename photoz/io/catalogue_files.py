"""Read tables of galaxies in CSV, ECSV, FITS, Parquet and VOTable files."""

import csv
import gzip
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, PhotozError, UnsupportedType, reason
from photoz.grid import FloatArray
from photoz.io.columns import ALIASES, whole_names
from photoz.io.cutouts import Column
from photoz.io.units import degrees_per, magnitudes_per, nanomaggies_per, redshifts_per

# Formats of astropy.table.Table.read.
ASTROPY_FORMATS = {
    ".fits": "fits",
    ".fit": "fits",
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}

SUFFIXES = ".csv, .ecsv, .fits, .parquet, .vot or .xml"

NUMBER = re.compile(r"[-+.\deE]+")

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

    path: Path
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

    def factor(self, name: str, value_of: Callable[[str], float | None], expected: str) -> float:
        """Return the value of a column's unit, 1 without one; raises `InvalidDataset` for an unknown unit."""
        if not (unit := self.unit(name)):
            return 1.0
        if (value := value_of(unit)) is None:
            velocities = ": it holds velocities" if re.search(r"/ *s\b|s\W{0,2}-1", unit) else ""
            raise InvalidDataset(
                f"{self.path}: column {self.names[name]!r} has the unit {unit}{velocities}; expected {expected}"
            )
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
        values, where = self._column(name), f"{self.path}: column {self.names[name]!r}"
        if values.dtype.kind == "f":
            text = whole_names(values, where).astype(np.str_)
        else:
            text = np.char.strip(values.astype(str))
            whole_names(np.array([float(word) for word in text if ROUNDED_ID.fullmatch(word)]), where)
        return np.where(np.isin(np.char.lower(text), UNKNOWN), "", text)

    def _column(self, name: str) -> Column:
        values = self.columns[self.names[name]]
        if values.ndim != 1:
            raise InvalidDataset(
                f"{self.path}: column {self.names[name]!r} has shape {values.shape}; expected one value in each row"
            )
        return values


def read_table(path: Path, names: Mapping[str, str]) -> NamedTable:
    """Read a file; `names` gives the names of its columns by ours. `object_id` and `split` are text.

    Raises `UnsupportedType` for an unknown suffix, and `InvalidDataset` for a file that is empty or cannot be read.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    units: dict[str, str] = {}
    try:
        if suffix == ".csv":
            columns = _read_csv(path, names)
        elif suffix == ".parquet":
            columns, units = _read_parquet(path)
        elif suffix in ASTROPY_FORMATS:
            columns, units = _read_astropy(path, ASTROPY_FORMATS[suffix])
        else:
            raise UnsupportedType(f"cannot read a catalogue from {suffix!r}: expected {SUFFIXES}")
    except PhotozError:
        raise
    except UnicodeDecodeError as error:
        byte = f"byte {error.object[error.start]:#x} at position {error.start}"
        raise InvalidDataset(f"{path} is not UTF-8 text ({byte}): expected UTF-8") from error
    except Exception as error:  # of a damaged file: OSError, ValueError, IndexError, EOFError, csv.Error
        raise InvalidDataset(f"{path} cannot be read as {suffix}: {' '.join(reason(error).split())}") from error
    if not columns or not len(next(iter(columns.values()))):
        raise InvalidDataset(f"{path} has no rows: expected one for each galaxy")
    return NamedTable(path, columns, find_names(path, columns, names, units), units)


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
            raise InvalidDataset(f"{path}: any of the columns {', '.join(found)} may be {name}: rename one to {name}")
        result[name] = found[0] if found else name
    return result


def _is_brightness(unit: str) -> bool:
    return magnitudes_per(unit) is not None or nanomaggies_per(unit) is not None


def _read_csv(path: Path, names: Mapping[str, str]) -> dict[str, Column]:
    """Read a file of UTF-8 text, which may be compressed; identifiers and `split` stay text."""
    import pandas as pd

    header, n_lines = _check_csv(path)
    found = find_names(path, header, names, {})
    frame = pd.read_csv(
        path,
        header=None,
        names=header,
        skiprows=n_lines,
        dtype={found[name]: str for name in ("object_id", "split")},
        index_col=False,
        skipinitialspace=True,
        low_memory=False,  # one type for a whole column
    )
    return {str(name): values.to_numpy() for name, values in frame.items()}


def _check_csv(path: Path) -> tuple[list[str], int]:
    """Return the names in the header and the number of lines to its end; refuse rows with too few or many fields."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
        n_comments = 0
        for first in stream:
            if first.startswith("# %ECSV"):
                raise InvalidDataset(f"{path} is ECSV, which gives units: rename it to .ecsv")
            if first.strip() and not first.startswith("#"):
                break
            n_comments += 1
        else:
            raise InvalidDataset(f"{path} is empty: expected a line of column names, then one line for each galaxy")
        reader = csv.reader(chain([first], stream))
        header = [name.strip() for name in next(reader)]
        n_lines = n_comments + reader.line_num
        if all(NUMBER.fullmatch(name) for name in header):
            raise InvalidDataset(
                f"{path}: line {n_lines} has numbers; expected column names there, without # before them"
            )
        if repeated := {name for name in header if header.count(name) > 1}:
            raise InvalidDataset(f"{path} has several columns named {', '.join(map(repr, sorted(repeated)))}")
        for fields in reader:
            if fields and len(fields) != len(header):
                raise InvalidDataset(
                    f"{path}: line {n_comments + reader.line_num} has {len(fields)} fields, but the header has "
                    f"{len(header)} names ({', '.join(header)}); expected one field for each name"
                )
    return header, n_lines


def _read_parquet(path: Path) -> tuple[dict[str, Column], dict[str, str]]:
    """Return columns, and their units from the metadata of fields or of an astropy table."""
    from pyarrow import parquet

    schema = parquet.read_schema(path)
    if b"table_meta_yaml" in (schema.metadata or {}):
        return _read_astropy(path, "parquet")
    units = {column.name: column.metadata[b"unit"].decode() for column in schema if b"unit" in (column.metadata or {})}
    # As float64, large integers would lose digits.
    frame = parquet.read_table(path).to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return {str(name): values.to_numpy() for name, values in frame.items()}, units


def _read_astropy(path: Path, format: str) -> tuple[dict[str, Column], dict[str, str]]:
    from astropy.io.votable.exceptions import W50
    from astropy.table import Table
    from astropy.units import UnitsWarning

    with warnings.catch_warnings():  # of unknown units, which `NamedTable.factor` refuses where they matter
        for category in (UnitsWarning, W50):
            warnings.simplefilter("ignore", category)
        table = Table.read(path, format=format)
    units = {name: str(unit) for name in table.colnames if (unit := getattr(table[name], "unit", None)) is not None}
    return {name: _unmasked(table[name]) for name in table.colnames}, units


def _unmasked(column: Any) -> Column:
    """Return an astropy column with masked numbers as NaN; masked integers become text, to keep all digits."""
    if not np.ma.is_masked(column):
        return np.asarray(column)
    if column.dtype.kind == "f":
        return np.ma.filled(column, np.nan)
    return np.ma.filled(column.astype(str), "")
