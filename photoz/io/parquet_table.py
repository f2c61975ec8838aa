"""Tables of estimates in Parquet, in parts: each is a row group."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from photoz.io.tables import Array, ResultTable, column_info

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def open_parquet(path: Path) -> Iterator[Callable[[ResultTable], None]]:
    """Open a file for parts with the same columns; the context yields a function that writes one part."""
    from pyarrow import parquet

    writer: parquet.ParquetWriter | None = None

    def write(table: ResultTable) -> None:
        nonlocal writer
        part = to_arrow(table)
        if writer is None:
            writer = parquet.ParquetWriter(path, part.schema)
        writer.write_table(part)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()  # writes the footer, without which nothing can be read


def write_parquet(table: ResultTable, target: BinaryIO) -> None:
    """Write a whole table."""
    from pyarrow import parquet

    parquet.write_table(to_arrow(table), target)


def to_arrow(table: ResultTable) -> "pa.Table":
    """Return an Arrow table; fields have the metadata `description`, `ucd` and `unit`, the schema has `model`."""
    import pyarrow as pa

    columns = {name: _to_arrow(values) for name, values in table.columns()}
    fields = [pa.field(name, column.type, metadata=column_info(name)._asdict()) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata={"model": table.model}))


def _to_arrow(values: Array) -> "pa.Array":
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
