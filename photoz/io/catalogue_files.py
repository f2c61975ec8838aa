"""Read tables of galaxies in CSV, ECSV, FITS, Parquet and VOTable files."""

import csv
import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, PhotozError, UnsupportedType, reason
from photoz.grid import FloatArray
from photoz.io.cutouts import Column

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
UNKNOWN = ("", "nan", "none", "null")


@dataclass(frozen=True)
class NamedTable:
    """The columns of a file with n rows, by our names."""

    path: Path
    columns: Mapping[str, Column]  # (n, ...) by name in the file
    names: Mapping[str, str]  # name in the file by our name

    def __contains__(self, name: str) -> bool:
        return self.names[name] in self.columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def numbers(self, name: str) -> FloatArray:
        """Return a column (n,) as float64, NaN where it is unknown or missing; raises `InvalidDataset` for text."""
        import pandas as pd

        if name not in self:
            return np.full(len(self), np.nan)
        values = self._column(name)
        if values.dtype.kind in "fiub":
            return np.asarray(values, dtype=np.float64)
        text = np.char.strip(values.astype(str))
        numbers = np.asarray(pd.to_numeric(text, errors="coerce"), dtype=np.float64)
        bad = np.isnan(numbers) & ~np.isin(np.char.lower(text), UNKNOWN)
        if bad.any():
            raise InvalidDataset(
                f"{self.path}: {str(text[bad][0])!r} in column {self.names[name]!r} of row {np.argmax(bad) + 1}: "
                "expected a number, or an empty field where it is unknown"
            )
        return numbers

    def text(self, name: str) -> npt.NDArray[np.str_]:
        """Return a column (n,) as text, "" where it is unknown."""
        text = np.char.strip(self._column(name).astype(str))
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
    try:
        if suffix == ".csv":
            columns = _read_csv(path, (names["object_id"], names["split"]))
        elif suffix == ".parquet":
            columns = _read_parquet(path)
        elif suffix in ASTROPY_FORMATS:
            columns = _read_astropy(path, ASTROPY_FORMATS[suffix])
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
    return NamedTable(path, columns, names)


def _read_csv(path: Path, text: tuple[str, ...]) -> dict[str, Column]:
    """Read a file of UTF-8 text, which may be compressed; `text` names the columns that stay text."""
    import pandas as pd

    header, n_lines = _check_csv(path)
    frame = pd.read_csv(
        path,
        header=None,
        names=header,
        skiprows=n_lines,
        dtype=dict.fromkeys(text, str),
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


def _read_parquet(path: Path) -> dict[str, Column]:
    import pandas as pd

    frame = pd.read_parquet(path)
    frame = frame.reset_index() if any(frame.index.names) else frame
    return {str(name): values.to_numpy() for name, values in frame.items()}


def _read_astropy(path: Path, format: str) -> dict[str, Column]:
    from astropy.table import Table

    table = Table.read(path, format=format)
    return {name: _unmasked(table[name]) for name in table.colnames}


def _unmasked(column: Any) -> Column:
    """Return an astropy column with masked numbers as NaN; masked integers become text, to keep all digits."""
    if not np.ma.is_masked(column):
        return np.asarray(column)
    if column.dtype.kind == "f":
        return np.ma.filled(column, np.nan)
    return np.ma.filled(column.astype(str), "")
