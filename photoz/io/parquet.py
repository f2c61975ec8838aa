"""Cutouts in Parquet: a column `images` of fixed-size lists; every other column of numbers or text is a column.

The type says the shape of a cutout (nested lists, or Arrow's fixed-shape tensor), or the schema's metadata do:
`image_spec`, as in our HDF5 files. They may also have `bands`, `unit` and `pixel_scale`.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, reason
from photoz.io.cutouts import Column, Cutouts
from photoz.io.formats import PARQUET
from photoz.io.layout import from_attributes

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = ("images", "image")

# A row group is read as a whole.
MAX_GROUP_BYTES = 2 * 1024**3


@contextmanager
def open_parquet_cutouts(path: Path) -> Iterator[Cutouts]:
    """Open a Parquet file of cutouts; raises `InvalidDataset` if it is unusable, `UnsupportedType` without pyarrow."""
    parquet = PARQUET.load("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            yield _from_file(file, path)
    except (InvalidDataset, FileNotFoundError):
        raise
    except _arrow_errors() as error:
        raise InvalidDataset(f"{path} cannot be read as Parquet: {reason(error)}") from error


def _arrow_errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return (pa.ArrowException, OSError)


def _from_file(file: Any, path: Path) -> Cutouts:
    schema = file.schema_arrow
    found = [name for name in IMAGES if name in schema.names]
    if not found:
        raise InvalidDataset(f"{path} has no column 'images'; it has {', '.join(schema.names) or 'none'}")
    attributes = {key.decode(): _value(value) for key, value in (schema.metadata or {}).items()}
    shape, dtype = _shape(schema.field(found[0]).type, attributes, path)
    rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    if max(rows, default=0) * math.prod(shape) * dtype.itemsize > MAX_GROUP_BYTES:
        raise InvalidDataset(
            f"a row group of {path} has the images of {max(rows):,} cutouts, more than {MAX_GROUP_BYTES:,} bytes: "
            "write it with row_group_size=1000"
        )
    columns = {name: _column(file, name) for name in schema.names if _is_plain(schema.field(name).type)}
    return from_attributes(_Images(file, found[0], shape, dtype, rows, path), columns, attributes, path)


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

    kinds = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return any(kind(type_) for kind in kinds)


def _column(file: Any, name: str) -> Column:
    """Read a column; a missing number is NaN, missing text is ""."""
    values = file.read(columns=[name]).column(0).to_numpy()
    if values.dtype.kind in "biuf":
        return np.asarray(values)
    return np.array(["" if value is None else value for value in values], dtype=np.str_)


class _Images:
    """Images on disk, of which one row group at a time is in memory."""

    def __init__(
        self, file: Any, name: str, cutout: tuple[int, ...], dtype: np.dtype[Any], rows: list[int], path: Path
    ) -> None:
        self.file, self.name, self.cutout, self.dtype, self.path = file, name, cutout, dtype, path
        self.stops = np.cumsum(rows, dtype=np.intp)  # rows up to the end of each row group
        self._group: tuple[int, npt.NDArray[Any]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.stops[-1]) if len(self.stops) else 0, *self.cutout)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        if not isinstance(key, slice):
            return np.asarray(self[int(key) : int(key) + 1][0])
        start, stop, step = key.indices(self.shape[0])
        parts = []
        for number, end in enumerate(self.stops):
            begin = int(self.stops[number - 1]) if number else 0
            if start < end and begin < stop:
                parts.append(self._read(number)[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts)[::step] if parts else np.empty((0, *self.cutout), self.dtype)

    def _read(self, number: int) -> npt.NDArray[Any]:
        if self._group is None or self._group[0] != number:
            self._group = None  # so that no two are in memory
            self._group = (number, self._pixels(self.file.read_row_group(number, columns=[self.name]).column(0)))
        return self._group[1]

    def _pixels(self, column: "pa.ChunkedArray") -> npt.NDArray[Any]:
        parts = []
        for chunk in column.chunks:
            values, n = getattr(chunk, "storage", chunk), len(chunk)
            while hasattr(values, "flatten"):
                if values.null_count:
                    raise InvalidDataset(f"{self.path} has cutouts without pixels")
                if not hasattr(values.type, "value_type"):
                    break
                values = values.flatten()
            parts.append(values.to_numpy(zero_copy_only=False).reshape(n, *self.cutout))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]
