"""Write tables of estimates in the format that the name of the file ends with."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from photoz.errors import UnsupportedType
from photoz.io.astropy_table import write_fits, write_votable
from photoz.io.hdf5_table import write_hdf5
from photoz.io.npz import npz_bytes
from photoz.io.parquet_table import open_parquet
from photoz.io.qp_ensemble import write_qp
from photoz.io.tables import ResultTable, csv_bytes, json_bytes, json_lines_bytes

QP_SUFFIX = ".qp.hdf5"

WriteTable = Callable[[ResultTable], object]


@dataclass(frozen=True)
class TableFormat:
    """A file format: `open` yields a function that writes a table or, if `in_parts`, one part of it at each call."""

    open: Callable[[Path], AbstractContextManager[WriteTable]]
    in_parts: bool = False
    package: str = ""  # which `open` or its function imports
    extra: str = ""  # of our wheel, which installs the package


def find_format(path: Path) -> TableFormat:
    """Return the format of a file; raises `UnsupportedType` if its name ends like none."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    suffix = "".join(suffixes) if suffixes[:1] == [".qp"] else path.suffix.lower()
    if suffix not in FORMATS:
        raise UnsupportedType(f"{path} should end in {', '.join(FORMATS)}")
    return FORMATS[suffix]


def write_table(table: ResultTable, path: Path) -> None:
    """Write a table; raises `UnsupportedType` if there is no such format, `InvalidPdfs` if qp gets no PDFs or grid."""
    with find_format(path).open(path) as write:
        write(table)


@contextmanager
def _open_csv(path: Path) -> Iterator[WriteTable]:
    with path.open("wb") as file:

        def write(table: ResultTable) -> None:
            header, _, lines = csv_bytes(table).partition(b"\n")
            file.write(lines if file.tell() else header + b"\n" + lines)
            file.flush()

        yield write


@contextmanager
def _open_json_lines(path: Path) -> Iterator[WriteTable]:
    with path.open("wb") as file:

        def write(table: ResultTable) -> None:
            file.write(json_lines_bytes(table))
            file.flush()

        yield write


def _whole(write: Callable[[ResultTable, Path], object]) -> Callable[[Path], AbstractContextManager[WriteTable]]:
    """Make a format of a function; the file appears, or is replaced, when it is complete."""

    def write_first(table: ResultTable, path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            made = Path(folder) / path.name
            write(table, made)
            made.replace(path)

    @contextmanager
    def open_whole(path: Path) -> Iterator[WriteTable]:
        yield lambda table: write_first(table, path)

    return open_whole


def _write_json(table: ResultTable, path: Path) -> None:
    path.write_bytes(json_bytes(table, table.model))


def _write_npz(table: ResultTable, path: Path) -> None:
    path.write_bytes(npz_bytes({**table.values, "model": np.array(table.model)}))


FORMATS = {
    ".csv": TableFormat(_open_csv, in_parts=True),
    ".json": TableFormat(_whole(_write_json)),
    ".npz": TableFormat(_whole(_write_npz)),
    ".jsonl": TableFormat(_open_json_lines, in_parts=True),
    ".parquet": TableFormat(open_parquet, in_parts=True, package="pyarrow", extra="parquet"),
    ".fits": TableFormat(_whole(write_fits), package="astropy", extra="astropy"),
    ".vot": TableFormat(_whole(write_votable), package="astropy", extra="astropy"),
    ".hdf5": TableFormat(_whole(write_hdf5)),
    ".h5": TableFormat(_whole(write_hdf5)),
    QP_SUFFIX: TableFormat(_whole(write_qp)),
}
