"""Write and read the parts of a run: `done/part-N.parquet`, and `rejected/part-N.parquet` if rows were rejected."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyarrow import parquet

from photoz_survey.inputs import Chunk
from photoz_survey.manifest import Part
from photoz_survey.scoring import Scored
from photoz_survey.storage import Folder

DONE, REJECTED = "done", "rejected"
NOTES = b"photoz_notes"  # in the metadata of parts

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


def read_part(folder: Folder, number: int, columns: Sequence[str]) -> tuple[Part, pa.Table]:
    """Read some columns of a part, and describe it; the metadata of the table has its notes."""
    content = folder.read(f"{DONE}/{part_name(number)}")
    table = parquet.read_table(io.BytesIO(content), columns=list(columns))
    try:
        n_rejected = parquet.read_metadata(io.BytesIO(folder.read(f"{REJECTED}/{part_name(number)}"))).num_rows
    except FileNotFoundError:
        n_rejected = 0
    sha256 = hashlib.sha256(content).hexdigest()
    return Part(number=number, n_done=len(table), n_rejected=n_rejected, sha256=sha256), table


def read_notes(table: pa.Table) -> Counter[str]:
    """Return the notes of a part: the number of files by what was done with them."""
    return Counter(json.loads((table.schema.metadata or {}).get(NOTES, b"{}")))


def first_reason(folder: Folder, number: int) -> str:
    """Return why the first rejected row of a part was rejected."""
    content = folder.read(f"{REJECTED}/{part_name(number)}")
    return str(parquet.read_table(io.BytesIO(content), columns=["reason"])["reason"][0])


def to_parquet(tables: Sequence[pa.Table], notes: Mapping[str, int] | None = None) -> bytes:
    """Return the content of a file with the rows of tables."""
    table, buffer = pa.concat_tables(tables), io.BytesIO()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), NOTES: json.dumps(notes or {})})
    text = [field.name for field in table.schema if field.type == pa.string()]  # numbers hardly repeat
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=text)
    return buffer.getvalue()
