"""The model card: grid, images, inputs, training, metrics and engines of a model."""

import hashlib
import json
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from photoz.calibration import Calibration
from photoz.grid import RedshiftGrid
from photoz.images import UNKNOWN_EBV, ImageSpec
from photoz.metrics import Score

SCHEMA_VERSION: Literal[3] = 3


# Names are parts of addresses and headers.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f/]{1,200}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(_Record):
    """Inputs of the network other than the images: whether it takes E(B-V), and the default for unknown values."""

    ebv: bool
    ebv_assumed: float | None = 0.0  # the default; None if the network was trained with unknown E(B-V) too

    @cached_property
    def ebv_default(self) -> float:
        """Input of the network for an unknown E(B-V)."""
        return UNKNOWN_EBV if self.ebv_assumed is None else self.ebv_assumed


class Architecture(_Record):
    """Name and number of parameters of the network."""

    name: str
    parameters: int


class TrainingRecord(_Record):
    """How the model was trained, in enough detail to repeat it."""

    data: str
    data_sha256: str
    n_train: int
    n_validation: int
    z_range: tuple[float, float]  # the lowest and the highest redshift of the training galaxies
    hyper_parameters: dict[str, Any]
    seed: int
    epochs: int
    git_commit: str | None
    library_versions: dict[str, str]


class TestRecord(_Record):
    """Metrics by method on galaxies that the model was not trained on."""

    data: str
    n_galaxies: int
    scores: dict[str, dict[str, Score]]


class EngineCheck(_Record):
    """Served estimates of a compiled network compared with those of Keras on the same galaxies."""

    crps_ratio: float  # to that of Keras
    sigma_mad_ratio: float
    z_mean_agreement: float  # fraction of the galaxies whose z_mean differs by less than 0.002
    flag_changes: float  # fraction of the galaxies whose flag OUT_OF_DISTRIBUTION differs
    images_per_second: float  # in batches of 64, on the machine that exported it


class EngineRecord(_Record):
    """A compiled copy of the network."""

    name: str  # kind and precision: "openvino-int8", "openvino-bf16" or "openvino-f32"
    path: str  # its main file, relative to the bundle; two engines may share it
    max_z_mean_difference: float  # from Keras, over the galaxies compared
    n_compared: int
    precision: Literal["f32", "bf16"] = "f32"  # of the layers that are not quantised
    check: EngineCheck | None = None


class CalibrationRecord(_Record):
    """Recalibration of the PDFs, with metrics "before" and "after" on the galaxies that it was fitted to."""

    parameters: Calibration
    n_galaxies: int  # each predicted by a network that was not trained on it
    scores: dict[str, dict[str, Score]]


class OodRecord(_Record):
    """Out-of-distribution detection by the feature groups of ood.npz."""

    threshold: float  # an `ood_score` above it is flagged
    false_alarms: float  # fraction of the held-out galaxies above it
    n_features: int  # length of the network's output "features"; 0 if the score does not use it


class AdaptationRecord(_Record):
    """How the model was adapted from another one, whose training its card describes."""

    parent: str  # name and version
    parent_digest: str  # of its card
    data: str
    data_sha256: str
    n_galaxies: int
    network: str  # what changed in it: "network as it is", "band gains" or "all weights"
    gains: dict[str, float]  # of the pixels, by band; empty if they did not change
    seed: int
    improvements: dict[str, Score]  # of the metrics over those of the parent, on the same galaxies; above 0 is better
    git_commit: str | None


class Histogram(_Record):
    """Cumulative distribution of a quantity: the fraction of galaxies at or below each edge, up to infinity."""

    edges: tuple[float, ...]
    fractions: tuple[float, ...]

    @model_validator(mode="after")
    def _check_lengths(self) -> "Histogram":
        increasing = all(low < high for low, high in pairwise(self.edges))
        if not self.edges or not increasing or len(self.edges) != len(self.fractions):
            raise ValueError(f"expected increasing edges with a fraction for each, got {self.edges}, {self.fractions}")
        return self


class ReferenceRecord(_Record):
    """Estimates of galaxies that the model was not trained on, recalibrated as served; see `photoz.drift`."""

    data: str  # which galaxies, and whether their images are real
    n_galaxies: int
    histograms: dict[Literal["z_mean", "z_width68", "ood_score"], Histogram]


class Card(_Record):
    """Description of a model, readable without loading it."""

    schema_version: Literal[3] = SCHEMA_VERSION
    name: Name
    version: Name
    created: datetime
    grid: RedshiftGrid
    image: ImageSpec
    inputs: Inputs
    architecture: Architecture
    training: TrainingRecord
    adaptation: AdaptationRecord | None = None
    test: TestRecord | None = None
    calibration: CalibrationRecord | None = None
    ood: OodRecord | None = None
    reference: ReferenceRecord | None = None
    gflop: float | None = None  # of one forward pass of one image; a multiplication and an addition count as two
    engines: tuple[EngineRecord, ...] = ()  # the best first
    licence: str = "Apache-2.0"
    caveats: tuple[str, ...] = ()
    files: dict[str, str] = {}
    digest: str = ""

    def sealed(self, files: dict[str, str]) -> "Card":
        """Return a copy with the hashes of the files and, computed last, the hash of the card itself."""
        card = self.model_copy(update={"files": dict(sorted(files.items())), "digest": ""})
        return card.model_copy(update={"digest": card._digest()})

    def is_sealed(self) -> bool:
        """Whether the card has not changed since it was sealed."""
        return self.digest == self._digest()

    def _digest(self) -> str:
        # Cards of models that were not adapted have no such field if they are from before 2026.12.
        absent = {"adaptation"} if self.adaptation is None else set()
        content = self.model_dump(mode="json", exclude={"digest", *absent})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
