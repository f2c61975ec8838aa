"""The HTTP contract: the JSON requests and responses of the service and the client.

Columns are named as in `photoz.estimates.Estimates`. NaN, which JSON does not have, is null.
"""

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from photoz.errors import InvalidInput, counted, printable, shortened
from photoz.io.html_table import scores_html
from photoz.metrics import Score

# The response header with the name and version of the model.
MODEL_HEADER = "x-photoz-model"

# The response headers that say in words what was done with a file, by the name of the list in `Reading`.
READING_HEADERS = {"used": "x-photoz-used", "assumed": "x-photoz-assumed", "left_out": "x-photoz-left-out"}

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

# Validation stops at the first wrong element: an error takes half a kB, a hundred times the element in the request.
Values = Annotated[list[T], Field(fail_fast=True)]

Pixels = Annotated[
    Values[Values[Values[Values[float | None]]]], Field(description="(n, size, size, n_bands); null is a masked pixel")
]
Ebv = Annotated[
    float | Values[float | None] | None, Field(description="E(B-V) in mag (SFD): one for all cutouts or one for each")
]

MAX_OBJECT_ID = 256  # characters; in a numpy array each name takes as much memory as the longest


def _as_name(given: Any) -> Any:
    return str(given) if type(given) is int else given


Names = Values[Annotated[str, Field(max_length=MAX_OBJECT_ID), BeforeValidator(_as_name)]]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PredictRequest(_Message):
    """Cutouts as JSON; for more than a few, `/predict_file` is a hundred times faster."""

    images: Pixels
    ebv: Ebv = None
    object_id: Names | None = None
    pdf: bool = Field(default=False, description="also return the PDFs")


class PredictOptions(_Message):
    """The query string of `/predict_file`."""

    pdf: bool = Field(default=False, description="also return the PDFs")
    ebv: float | None = Field(default=None, description="E(B-V) in mag (SFD) of all cutouts, if the file has none")


class TableOptions(_Message):
    """The query string of `/table`: what the table says of its origin."""

    model: Annotated[str, Field(max_length=200)] = Field(default="", description="name and version of the model")
    input: Annotated[str, Field(max_length=300)] = Field(default="HTTP request", description="name of the file")
    assumed: Annotated[str, Field(max_length=2000)] = Field(default="", description="what was assumed of the file")
    left_out: Annotated[str, Field(max_length=2000)] = Field(default="", description="what of the file is not here")
    share: bool = Field(
        default=False, description="answer the path at which other programs find the table for 10 minutes"
    )


class SkyRequest(_Message):
    """A position on the sky: `ra` and `dec` in degrees (ICRS), or `position` as text."""

    ra: Annotated[float, Field(ge=0, le=360, allow_inf_nan=False)] | None = None
    dec: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] | None = None
    position: Annotated[str, Field(pattern=r"^[ -~]{1,100}$")] | None = Field(
        default=None, description="RA and Dec in degrees, sexagesimal, or the name of an object"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        has_both, has_neither = None not in (self.ra, self.dec), self.ra is None and self.dec is None
        if not (has_neither if self.position is not None else has_both):
            raise PydanticCustomError("position", "expected ra and dec, or position")
        return self

    def __str__(self) -> str:
        return self.position or f"{self.ra} {self.dec}"


class ProvenanceRecord(_Message):
    """Where estimates come from; notes on the input are sentences."""

    input: str = ""
    date: str = Field(default="", description="UTC, ISO 8601")
    software: str
    used: list[str] = []
    assumed: list[str] = []
    left_out: list[str] = []


class PredictResponse(_Message):
    """Estimates by column, one value per cutout; `ra`, `dec` and `z_spec` are those of the file, if it has them."""

    model: str
    provenance: ProvenanceRecord
    z_edges: list[float] | None = Field(default=None, description="edges of the bins of `pdf`")
    object_id: list[str]
    ra: list[float | None] | None = None
    dec: list[float | None] | None = None
    z_spec: list[float | None] | None = None
    z_mean: list[float]
    z_median: list[float]
    z_mode: list[float]
    z_std: list[float]
    z_lo68: list[float]
    z_hi68: list[float]
    z_lo95: list[float]
    z_hi95: list[float]
    odds: list[float]
    ood_score: list[float | None]
    flags: list[int]
    pdf: list[list[float]] | None = None


class EvaluateRequest(_Message):
    """True redshifts with either cutouts or PDFs that were predicted before."""

    z_spec: Values[float | None]
    images: Pixels | None = None
    pdfs: Values[Values[float]] | None = None
    ebv: Ebv = None
    object_id: Names | None = None
    magnitudes: Values[float | None] | None = Field(
        default=None, description="one magnitude per galaxy, for residuals by magnitude in the report"
    )


Plot = Literal["scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked"]


class EvaluateOptions(_Message):
    """The query string of `/evaluate`."""

    plot: Plot | None = Field(default=None, description="which plot to draw, as PNG or SVG")
    num_images: int = Field(default=9, ge=1, le=36, description="panels of the plot 'pdfs'")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of the choice of those panels")


class EvaluateResponse(_Message):
    """Metrics with bootstrap errors; `dropped` names the galaxies whose z_spec is not on the grid."""

    model: str
    n_galaxies: int
    scores: dict[str, Score]
    dropped: list[str] = []

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {score}" for name, score in self.scores.items())
        return f"<EvaluateResponse of {printable(self._summary())}: {printable(scores)}>"

    def _repr_html_(self) -> str:
        return scores_html(self.scores, self._summary())

    def _summary(self) -> str:
        dropped = f", {len(self.dropped):,} left out" if self.dropped else ""
        return f"{counted(self.n_galaxies, 'galaxy')} by {self.model}{dropped}"


class SharedTable(_Message):
    """Body of a response of `/table?share=true`."""

    path: str = Field(description="path of the table, from that of the service")


class ErrorResponse(_Message):
    """Body of every error response."""

    error: str


def validated(model: type[M], content: Mapping[str, Any], *, strict: bool) -> M:
    """Validate decoded content; raises `InvalidInput` with the first thing that is wrong in one sentence."""
    try:
        return model.model_validate(content, strict=strict)
    except ValidationError as error:
        raise InvalidInput(_describe(error)) from error


def _describe(error: ValidationError) -> str:
    """Describe a validation error in a sentence, such as "images.0.3.2.1: input should be a valid number, got 'a'"."""
    first, *others = error.errors(include_url=False, include_context=False)
    # After the name of the field only indices: the rest are pydantic's names for the branches of a union.
    place = [str(part) for i, part in enumerate(first["loc"]) if i == 0 or isinstance(part, int)]
    message = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] not in ("missing", "extra_forbidden"):
        message += f", got {shortened(reprlib.repr(first['input']), 40)}"
    more = f" (and {counted(len(others), 'more such error')})" if others else ""
    return f"{'.'.join(place) or 'the body'}: {message}{more}"
