"""Read tables of galaxies in CSV, ECSV, FITS, Parquet and VOTable files, and in HATS catalogues."""

import csv
import gzip
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from photoz.errors import InvalidDataset, PhotozError, UnsupportedType, reason
from photoz.io.columns import NamedTable, find_names, plain
from photoz.io.cutouts import Column

# Formats of astropy.table.Table.read.
ASTROPY_FORMATS = {
    **dict.fromkeys((".fits", ".fit"), "fits"),
    **dict.fromkeys((".vot", ".votable", ".xml"), "votable"),
    ".ecsv": "ascii.ecsv",
}

SUFFIXES = ".csv, .ecsv, .fits, .parquet, .vot or .xml"

# The index of HATS, a column of its files that says where they belong.
HATS_INDEX = "_healpix_29"

NUMBER = re.compile(r"[-+.\deE]+")

# Frames of positions that differ from ICRS by less than 0.1 arcsec, as files spell them, and an equinox.
SAME_AS_ICRS = re.compile(r"\s*((eq_)?(ICRS|FK5)?\s*(J?2000(\.0*)?)?|GEOCENTER|BARYCENTER)\s*", re.IGNORECASE)


def read_table(path: Path, names: Mapping[str, str]) -> NamedTable:
    """Read a file, or the folder of a HATS catalogue; `names` maps our names of columns to its own.

    `object_id` and `split` are text.

    Raises `UnsupportedType` for an unknown suffix, and `InvalidDataset` for a file that is empty or cannot be read.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    units: dict[str, str] = {}
    try:
        if path.is_dir():
            suffix = "HATS"
            columns, units = _read_hats(path)
        elif suffix == ".csv":
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


def _read_csv(path: Path, names: Mapping[str, str]) -> dict[str, Column]:
    """Read a file of UTF-8 text, which may be compressed; identifiers and `split` stay text.

    So do large integers if some are unknown: as float64 they would lose digits.
    """
    import pandas as pd

    header, n_lines, delimiter = _check_csv(path)
    found = find_names(path, header, names, {})
    read = partial(
        pd.read_csv,
        path,
        sep=delimiter,
        header=None,
        names=header,
        skiprows=n_lines,
        index_col=False,
        skipinitialspace=True,
        low_memory=False,  # one type for a whole column
    )
    frame = read(dtype={found[name]: str for name in ("object_id", "split")})
    for name, values in frame.items():
        if values.dtype.kind == "f" and (values.abs() >= 2**53).any():
            words = read(usecols=[name], dtype=str)[name].fillna("")
            if words.str.fullmatch(r"[-+]?\d*").all():
                frame[name] = words
    return {str(name): values.to_numpy() for name, values in frame.items()}


def _check_csv(path: Path) -> tuple[list[str], int, str]:
    """Return the names in the header, the number of lines to its end, and the delimiter.

    Refuses rows with too few or many fields.
    """
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
        delimiter = ";" if ";" in first and "," not in first else ","
        reader = csv.reader(chain([first], stream), delimiter=delimiter)
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
    return header, n_lines, delimiter


def _read_parquet(path: Path) -> tuple[dict[str, Column], dict[str, str]]:
    """Return columns, and their units from the metadata of fields or of an astropy table."""
    from pyarrow import parquet

    schema = parquet.ParquetDataset(path, partitioning=None).schema
    if b"table_meta_yaml" in (schema.metadata or {}):
        return _read_astropy(path, "parquet")
    units = {column.name: column.metadata[b"unit"].decode() for column in schema if b"unit" in (column.metadata or {})}
    # As float64, large integers would lose digits.
    frame = parquet.read_table(path, partitioning=None).to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return {str(name): values.to_numpy() for name, values in frame.items()}, units


def _read_hats(path: Path) -> tuple[dict[str, Column], dict[str, str]]:
    """Return the columns of a HATS catalogue or collection, with its names of RA and Dec as `ra` and `dec`.

    https://hats.readthedocs.io
    """
    collection = _properties(path / "collection.properties")
    path = path / collection.get("hats_primary_table_url", "")
    properties = _properties(path / "hats.properties") or _properties(path / "properties")
    if not properties:
        raise InvalidDataset(f"{path} has no hats.properties: expected a file, or the folder of a HATS catalogue")
    columns, units = _read_parquet(path / "dataset")
    for name in ("ra", "dec"):
        given = properties.get(f"hats_col_{name}", name)
        columns[name] = columns.pop(given)
        units[name] = units.pop(given, "deg")
    columns.pop(HATS_INDEX, None)
    return columns, units


def _properties(path: Path) -> dict[str, str]:
    """Return a file of lines KEY=VALUE; empty if there is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines) if value}


def _read_astropy(path: Path, format: str) -> tuple[dict[str, Column], dict[str, str]]:
    from astropy.io.votable.exceptions import W50
    from astropy.table import Table
    from astropy.units import UnitsWarning

    with warnings.catch_warnings():  # of unknown units, which `NamedTable.factor` refuses where they matter
        for category in (UnitsWarning, W50):
            warnings.simplefilter("ignore", category)
        table = Table.read(path, format=format)
        for frame in _frames(path, format, table.meta):
            if not SAME_AS_ICRS.fullmatch(frame):
                raise InvalidDataset(f"{path} has positions in the frame {frame}: expected ICRS, or FK5 of J2000")
    units = {name: str(unit) for name in table.colnames if (unit := getattr(table[name], "unit", None)) is not None}
    return {name: plain(table[name]) for name in table.colnames}, units


def _frames(path: Path, format: str, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yield the frames of positions that a file names: in keywords, or of the columns of a VOTable."""
    yield from (str(meta[name]) for name in ("RADESYS", "RADECSYS", "EQUINOX") if name in meta)
    if format == "votable":
        from astropy.io.votable import parse

        file = parse(path)
        frames = {frame.ID: f"{frame.system or ''} {frame.equinox or ''}" for frame in file.iter_coosys()}
        names = find_names(
            path, [field.name for field in file.get_first_table().fields], {"ra": "ra", "dec": "dec"}, {}
        )
        yield from (
            frames[field.ref]
            for field in file.get_first_table().fields
            if field.name in names.values() and field.ref in frames
        )
