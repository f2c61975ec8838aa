"""The manifest of a run: its inputs, model and options, and the rows of each part."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from photoz.errors import InvalidInput, counted
from photoz.grid import RedshiftGrid
from photoz.io.options import ReadOptions

NAME = "manifest.json"

# Packages that results depend on.
PACKAGES = ("photoz", "numpy", "openvino", "pyarrow")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(_Record):
    """A file of cutouts, with its size and date to notice changes."""

    path: str  # or URL
    size: int  # bytes
    modified: str  # date, or the ETag of an object store
    n_rows: int | None = None  # None if it is only known when the file is scored
    integer_ids: bool = False  # whether the names of its galaxies are known to be integers
    error: str = ""  # why the file cannot be read


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ScoreOptions(ReadOptions):
    """Options of the command ``photoz score``: how cutouts are read, and what is written."""

    columns: tuple[str, ...] = ()  # of the files, written beside the estimates, ra, dec and z_spec
    pdf: Literal["float16", "float32"] | None = None  # type of the PDFs; None leaves them out
    quantiles: tuple[float, ...] = ()  # of the PDFs, to write
    rows_per_part: Annotated[int, Field(ge=1)] = 8192


class Plan(_Record):
    """Everything that determines the results; only a run with the same plan can be resumed."""

    model: str  # name and version
    digest: str  # of the bundle
    engine: str
    grid: RedshiftGrid
    settings: ScoreOptions
    inputs: tuple[InputFile, ...]

    @property
    def integer_ids(self) -> bool:
        """Whether `object_id` is int64 in all parts, and not text: all of the run have the same type."""
        return all(file.integer_ids for file in self.inputs if not file.error)


class Part(_Record):
    """The rows of one part."""

    number: int
    n_done: int
    n_rejected: int
    sha256: str  # of its file in `done`


class Manifest(_Record):
    """Content of `manifest.json`, written at the start of a run without parts, and again at its end."""

    schema_version: Literal[1] = 1
    plan: Plan
    versions: dict[str, str]
    is_complete: bool = False
    notes: dict[str, int] = {}  # files by what was used of them, assumed and left out
    parts: tuple[Part, ...] = ()


def versions() -> dict[str, str]:
    """Return the versions of `PACKAGES`."""
    return {name: version(name) for name in PACKAGES}


def read_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest; raises `InvalidInput` if it is not valid."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{where} is not a manifest: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def check_same(old: Plan, new: Plan) -> None:
    """Raise `InvalidInput` if a run cannot be resumed, because its model, settings or inputs have changed."""
    begun, got = (p.model_dump(include={"model", "digest", "engine"}) | asdict(p.settings) for p in (old, new))
    for name, value in begun.items():
        if got[name] != value:
            raise InvalidInput(f"the run was begun with {name} = {value}, got {got[name]}")
    before, now = ({file.path: file.model_dump(exclude={"integer_ids"}) for file in p.inputs} for p in (old, new))
    if missing := sorted(before.keys() - now.keys()):
        raise InvalidInput(f"{counted(len(missing), 'input')} missing, such as {missing[0]}")
    if added := sorted(now.keys() - before.keys()):
        raise InvalidInput(f"{counted(len(added), 'input')} added since the run was begun, such as {added[0]}")
    if changed := [path for path, file in before.items() if now[path] != file]:
        raise InvalidInput(f"{changed[0]} has changed since the run was begun")
