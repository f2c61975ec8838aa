"""The manifest of a run: what is scored, with which model and how, and what came of it."""

from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from photoz.errors import InvalidInput
from photoz.grid import RedshiftGrid

NAME = "manifest.json"

# Packages that results depend on.
PACKAGES = ("photoz", "numpy", "openvino", "pyarrow")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(_Record):
    """A file of cutouts, and what shows that it has not changed."""

    path: str  # or URL
    size: int  # bytes
    modified: str  # when, or the ETag of an object store
    n_rows: int | None = None  # None where it is known only when the file is scored
    error: str = ""  # why it cannot be read


class Settings(_Record):
    """How cutouts are read and scored, and what is written."""

    bands: tuple[str, ...] = ()  # of the images in their order, instead of what the files say
    zero_point: float | None = None  # AB magnitude of a pixel with the value 1, instead of what the files say
    ebv: float | None = None  # E(B-V) in mag of all cutouts, instead of the files' column
    columns: tuple[str, ...] = ()  # of the files, written beside the estimates, ra, dec and z_spec
    pdf: Literal["float16", "float32"] | None = None  # type of the PDFs that are written
    quantiles: tuple[float, ...] = ()  # of the PDFs
    rows_per_part: Annotated[int, Field(ge=1)] = 8192


class Plan(_Record):
    """All that the results follow from; a run is resumed with the same only."""

    model: str  # name and version
    digest: str  # of the bundle
    engine: str
    grid: RedshiftGrid
    settings: Settings
    inputs: tuple[InputFile, ...]


class Part(_Record):
    """What came of one part of the plan."""

    number: int
    n_done: int
    n_rejected: int
    sha256: str  # of its file in `done`


class Manifest(_Record):
    """What is written to `manifest.json`: at the start without parts, and again at the end."""

    schema_version: Literal[1] = 1
    plan: Plan
    versions: dict[str, str]
    is_complete: bool = False
    parts: tuple[Part, ...] = ()


def versions() -> dict[str, str]:
    """Return the versions of `PACKAGES`."""
    return {name: version(name) for name in PACKAGES}


def read_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest; raises `InvalidInput` if it is none."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{where} is not a manifest: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def check_same(old: Plan, new: Plan) -> None:
    """Raise `InvalidInput` if a run cannot be resumed, because its model, settings or inputs have changed."""
    for name in ("model", "digest", "engine"):
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            raise InvalidInput(f"the {name} has changed: the run was begun with {before}, got {now}")
    for name in Settings.model_fields:
        before, now = getattr(old.settings, name), getattr(new.settings, name)
        if before != now:
            raise InvalidInput(f"the run was begun with {name} = {before}, got {now}")
    known, found = {one.path: one for one in old.inputs}, {one.path: one for one in new.inputs}
    if gone := sorted(known.keys() - found.keys()):
        raise InvalidInput(f"{len(gone)} inputs are missing, such as {gone[0]}")
    if more := sorted(found.keys() - known.keys()):
        raise InvalidInput(f"{len(more)} inputs were not there when the run was begun, such as {more[0]}")
    for path, before in known.items():
        if found[path] != before:
            raise InvalidInput(f"{path} has changed since the run was begun")
