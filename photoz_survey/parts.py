"""Write and read the parts of a run: `done/part-N.parquet`, and `rejected/part-N.parquet` if rows were rejected."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet
from pydantic import TypeAdapter

from photoz.errors import InvalidInput, counted
from photoz.io.cutouts import refusing
from photoz_survey.inputs import Chunk
from photoz_survey.manifest import Part
from photoz_survey.scoring import Scored
from photoz_survey.storage import Folder

DONE, REJECTED = "done", "rejected"
NOTES = b"photoz_notes"  # in the metadata of parts
_NOTES = TypeAdapter(dict[str, int])

REJECTED_SCHEMA = pa.schema({"file": pa.string(), "row": pa.int64(), "object_id": pa.string(), "reason": pa.string()})


def part_name(number: int) -> str:
    """Return the name of the file of a part."""
    return f"part-{number:07d}.parquet"


def write_part(folder: Folder, chunk: Chunk, scored: Scored) -> None:
    """Write the result of a chunk; the file in `done`, which may have no rows, is written last to mark it complete."""
    name = part_name(chunk.number)
    if scored.rejected:
        folder.write(f"{REJECTED}/{name}", to_parquet([pa.Table.from_pylist(scored.rejected, REJECTED_SCHEMA)]))
    folder.write(f"{DONE}/{name}", to_parquet(scored.done, scored.notes))


@dataclass(frozen=True)
class PartContent:
    """A part, some columns of its rows, and what the summary of a run says of it."""

    part: Part
    columns: dict[str, npt.NDArray[Any]]  # (n_done,) numbers each
    notes: Counter[str]  # files by what was done with them
    reason: str  # why its first rejected row was rejected


def read_part(folder: Folder, number: int, columns: Sequence[str], n_rows: int | None) -> PartContent:
    """Read some columns of a part, which are numbers; raises `InvalidDataset` if it is not a part of `n_rows` rows."""
    name = part_name(number)
    content = folder.read(f"{DONE}/{name}")
    try:
        of_rejected = folder.read(f"{REJECTED}/{name}")
    except FileNotFoundError:
        of_rejected = b""
    with refusing(f"{folder.url}/{DONE}/{name} or its rejected rows cannot be read; remove both to score it again"):
        rejected = parquet.ParquetFile(io.BytesIO(of_rejected)) if of_rejected else None
        done, n_rejected = parquet.ParquetFile(io.BytesIO(content)), rejected.metadata.num_rows if rejected else 0
        n_done = done.metadata.num_rows
        if n_rows not in (None, n_done + n_rejected):
            raise ValueError(f"expected {counted(n_rows or 0, 'row')}, got {n_done + n_rejected:,}")
        table = done.read(columns=list(columns))
        return PartContent(
            Part(number=number, n_done=n_done, n_rejected=n_rejected, sha256=digest_of(content)),
            {name: _numbers(table, name) for name in columns},
            Counter(_NOTES.validate_json((table.schema.metadata or {}).get(NOTES, b"{}"))),
            str(rejected.read(columns=["reason"])["reason"][0]) if rejected and n_rejected else "",
        )


def _numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].to_numpy()
    if values.dtype.kind != ("i" if name == "flags" else "f"):
        raise ValueError(f"{name} has the type {table[name].type}")
    return values


def read_checked(folder: Folder, part: Part) -> bytes:
    """Read the file of a part in `done`; raises `InvalidInput` if it is not the one that the manifest names."""
    name = f"{DONE}/{part_name(part.number)}"
    content = folder.read(name)
    if digest_of(content) != part.sha256:
        raise InvalidInput(f"{folder.url}/{name} was changed after the run was completed: its sha256 differs")
    return content


def digest_of(content: bytes) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(content).hexdigest()


def to_parquet(tables: Sequence[pa.Table], notes: Mapping[str, int] | None = None) -> bytes:
    """Return the content of a file with the rows of tables."""
    table, buffer = pa.concat_tables(tables), io.BytesIO()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), NOTES: json.dumps(notes or {})})
    text = [field.name for field in table.schema if field.type == pa.string()]  # numbers hardly repeat
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=text)
    return buffer.getvalue()
