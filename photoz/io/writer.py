"""Write tables of estimates in the format that the name of the file ends with."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from photoz.io import formats
from photoz.io.astropy_table import write_fits, write_votable
from photoz.io.formats import Format, written_format
from photoz.io.hdf5 import write_hdf5
from photoz.io.npz import npz_bytes
from photoz.io.parquet import open_parquet, write_parquet
from photoz.io.qp_ensemble import write_qp
from photoz.io.tables import ResultTable, csv_bytes, json_bytes, json_lines_bytes


def write_table(table: ResultTable, path: Path) -> None:
    """Write a table; raises `UnsupportedType` for an unknown suffix, `InvalidPdfs` if qp gets no PDFs or grid."""
    with open_table(path) as write:
        write(table)


@contextmanager
def open_table(path: Path) -> Iterator[Callable[[ResultTable], object]]:
    """Open a file for a table; the context yields a function that writes it.

    A format that is `in_parts` takes a part of the table at each call, and the file grows with it. A file of any other
    format appears, or is replaced, when it is complete. Raises as `write_table`.
    """
    format = written_format(path)
    if format is formats.PARQUET:
        with open_parquet(path) as write:
            yield write
    elif format.in_parts:
        with path.open("wb") as file:

            def write_part(table: ResultTable) -> None:
                WRITERS[format](table, file)
                file.flush()

            yield write_part
    else:
        yield lambda table: _replace(path, table, WRITERS[format])


def _replace(path: Path, table: ResultTable, write: Callable[[ResultTable, BinaryIO], object]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        complete = Path(folder) / path.name
        with complete.open("w+b") as file:
            write(table, file)
        complete.replace(path)


def _write_csv(table: ResultTable, file: BinaryIO) -> None:
    header, _, lines = csv_bytes(table).partition(b"\n")
    file.write(lines if file.tell() else header + b"\n" + lines)


def _write_npz(table: ResultTable, file: BinaryIO) -> None:
    """Write the columns and, as arrays beside them, the provenance and the edges of the bins of the PDFs."""
    others: dict[str, Any] = {"model": table.provenance.model} | table.provenance.record()
    if (edges := table.z_edges()) is not None:
        others["z_edges"] = edges
    file.write(npz_bytes({**table.values, **{name: np.array(value) for name, value in others.items()}}))


# Write a table at the end of a binary file.
WRITERS: Mapping[Format, Callable[[ResultTable, BinaryIO], object]] = {
    formats.CSV: _write_csv,
    formats.JSON: lambda table, file: file.write(json_bytes(table)),
    formats.NPZ: _write_npz,
    formats.JSON_LINES: lambda table, file: file.write(json_lines_bytes(table)),
    formats.FITS: write_fits,
    formats.VOTABLE: write_votable,
    formats.HDF5: write_hdf5,
    formats.PARQUET: write_parquet,
    formats.QP: write_qp,
}
