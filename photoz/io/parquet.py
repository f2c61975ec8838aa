"""Cutouts and tables of estimates in Parquet.

Cutouts have a column `images` of fixed-size lists; every other column of numbers or text is a column.

The shape of a cutout comes from the type (nested lists, or Arrow's fixed-shape tensor) or from the schema's metadata:
`image_spec`, as in our HDF5 files. The metadata may also have `bands`, `unit` and `pixel_scale`.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, reason
from photoz.io.attributes import from_attributes, merged, unit_of
from photoz.io.cutouts import Column, Cutouts, LazyImages
from photoz.io.formats import PARQUET
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.io.tables import ResultTable, column_info

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = ("images", "image")

# A row group is read as a whole.
MAX_GROUP_BYTES = 2 * 1024**3


@contextmanager
def open_parquet_cutouts(path: Path, options: ReadOptions = NO_OPTIONS) -> Iterator[Cutouts]:
    """Open a Parquet file of cutouts; raises `InvalidDataset` if it is unusable, `UnsupportedType` without pyarrow."""
    parquet = PARQUET.load("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            yield _from_file(file, path, options)
    except (InvalidDataset, FileNotFoundError):
        raise
    except _arrow_errors() as error:
        raise InvalidDataset(f"{path} cannot be read as Parquet: {reason(error)}") from error


def _arrow_errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return (pa.ArrowException, OSError)


def _from_file(file: Any, path: Path, options: ReadOptions) -> Cutouts:
    schema = file.schema_arrow
    name = options.image_column(schema.names, path, IMAGES)
    of_file, of_images = (
        {k.decode(): _value(v) for k, v in (m or {}).items()} for m in (schema.metadata, schema.field(name).metadata)
    )
    attributes = merged(of_file, of_images, path)
    shape, dtype = _shape(schema.field(name).type, attributes, path)
    rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    if max(rows, default=0) * math.prod(shape) * dtype.itemsize > MAX_GROUP_BYTES:
        raise InvalidDataset(
            f"a row group of {path} has the images of {max(rows):,} cutouts, more than {MAX_GROUP_BYTES:,} bytes: "
            "write it with row_group_size=1000"
        )
    columns = {column: _column(file, column) for column in schema.names if _is_plain(schema.field(column).type)}
    units = {name: unit_of({k.decode(): v for k, v in (schema.field(name).metadata or {}).items()}) for name in columns}
    others = tuple(f"the column {column}" for column in schema.names if column not in columns and column != name)
    images = LazyImages(_RowGroups(file, name, shape, path).read, np.cumsum(rows, dtype=np.intp), shape)
    return from_attributes(images, columns, attributes, path, units, others)


def _value(text: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(text)
    return text.decode(errors="replace")


def _shape(type_: "pa.DataType", attributes: dict[str, Any], path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape of a cutout and the type of its pixels."""
    import pyarrow as pa

    lengths: list[int] = []
    if isinstance(type_, pa.FixedShapeTensorType) and list(type_.permutation or ()) in ([], [0, 1, 2]):
        lengths, type_ = list(type_.shape), type_.value_type
    while pa.types.is_fixed_size_list(type_):
        lengths.append(type_.list_size)
        type_ = type_.value_type
    if len(lengths) == 1 and isinstance(spec := attributes.get("image_spec"), dict):
        with suppress(KeyError, TypeError):
            sides = [int(spec["size"]), int(spec["size"]), len(spec["bands"])]
            lengths = sides if math.prod(sides) == lengths[0] else lengths
    if len(lengths) != 3 or not (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        raise InvalidDataset(
            f"expected fixed-size lists of numbers with three axes as images in {path} (nested, a fixed-shape tensor, "
            f"or with the metadata image_spec), got {'x'.join(map(str, lengths)) or 'no list'} of {type_}"
        )
    return tuple(lengths), np.dtype(type_.to_pandas_dtype())


def _is_plain(type_: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    is_number = types.is_integer(type_) or types.is_floating(type_) or types.is_boolean(type_)
    return bool(is_number or types.is_string(type_) or types.is_large_string(type_))


def _column(file: Any, name: str) -> Column:
    """Read a column; a missing number is NaN, missing text is "", and integers, some missing, are text."""
    column = file.read(columns=[name]).column(0)
    if column.null_count and "int" in str(column.type):
        column = column.cast("string")
    values = column.to_numpy()
    if values.dtype.kind in "biuf":
        return np.asarray(values)
    return np.array(["" if value is None else value for value in values], dtype=np.str_)


class _RowGroups:
    """Images on disk; one row group at a time is in memory."""

    def __init__(self, file: Any, name: str, cutout: tuple[int, ...], path: Path) -> None:
        self.file, self.name, self.cutout, self.path = file, name, cutout, path
        self._group: tuple[int, npt.NDArray[Any]] | None = None

    def read(self, number: int, rows: slice) -> npt.NDArray[Any]:
        """Read rows of a group."""
        if self._group is None or self._group[0] != number:
            self._group = None  # frees the memory of the last group before the next is read
            self._group = (number, self._pixels(self.file.read_row_group(number, columns=[self.name]).column(0)))
        return self._group[1][rows]

    def _pixels(self, column: "pa.ChunkedArray") -> npt.NDArray[Any]:
        from pyarrow.compute import list_flatten

        parts = []
        for chunk in column.chunks:
            values = list_flatten(getattr(chunk, "storage", chunk), recursive=True)  # leaves nulls out
            if values.null_count or len(values) < len(chunk) * math.prod(self.cutout):
                raise InvalidDataset(f"{self.path} has cutouts without pixels")
            parts.append(values.to_numpy(zero_copy_only=False).reshape(-1, *self.cutout))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


@contextmanager
def open_parquet(target: Path | BinaryIO) -> Iterator[Callable[[ResultTable], None]]:
    """Open a file for parts with the same columns; the context yields a function that writes one part."""
    from pyarrow import parquet

    writer: parquet.ParquetWriter | None = None

    def write(table: ResultTable) -> None:
        nonlocal writer
        part = to_arrow(table)
        if writer is None:
            writer = parquet.ParquetWriter(target, part.schema)
        writer.write_table(part)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()  # writes the footer, without which nothing can be read


def write_parquet(table: ResultTable, target: BinaryIO) -> None:
    """Write a whole table."""
    with open_parquet(target) as write:
        write(table)


def to_arrow(table: ResultTable) -> "pa.Table":
    """Return an Arrow table; NaN of columns (n,) is null.

    Fields have the metadata `description`, `ucd` and `unit`. The schema has the provenance and, with PDFs, the edges of
    their bins, `z_edges`; its lists are JSON.
    """
    import pyarrow as pa

    columns = {name: _to_arrow(values) for name, values in table.columns()}
    fields = [pa.field(name, column.type, metadata=column_info(name)._asdict()) for name, column in columns.items()]
    metadata = {"model": table.provenance.model} | table.provenance.record()
    if (edges := table.z_edges()) is not None:
        metadata["z_edges"] = edges.tolist()
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata=texts))


def _to_arrow(values: Column) -> "pa.Array":
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values, from_pandas=True)  # NaN is null
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
