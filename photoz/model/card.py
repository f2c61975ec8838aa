"""The card of a model bundle: everything that is to be known of a model without opening it."""

import hashlib
import json
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from photoz.calibration import Calibration
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.metrics import Score

SCHEMA_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(_Part):
    """What the network takes beside the images.

    Attributes
    ----------
    ebv : bool
        Whether it takes E(B-V).
    ebv_assumed : float
        The value that stands in where none is given: the median of the training galaxies.
    """

    ebv: bool
    ebv_assumed: float = 0.0


class Architecture(_Part):
    """Which network it is."""

    name: str
    parameters: int


class TrainingRecord(_Part):
    """How the model came to be: enough to make it again."""

    data: str
    data_sha256: str
    n_train: int
    n_validation: int
    hyper_parameters: dict[str, Any]
    seed: int
    epochs: int
    git_commit: str | None
    library_versions: dict[str, str]


class TestRecord(_Part):
    """How well it does on galaxies that it has not seen; `scores` maps a method to its figures."""

    data: str
    n_galaxies: int
    scores: dict[str, dict[str, Score]]


class EngineCheck(_Part):
    """How the answers of a compiled network compare with Keras's, as they are served.

    Attributes
    ----------
    crps_ratio, sigma_mad_ratio : float
        Its figure over Keras's on the same galaxies.
    z_mean_agreement : float
        Part of the galaxies whose z_mean differs by less than 0.002.
    flag_changes : float
        Part of the galaxies whose flag OUT_OF_DISTRIBUTION differs.
    images_per_second : float
        At 64 cutouts a call, where it was exported.
    """

    crps_ratio: float
    sigma_mad_ratio: float
    z_mean_agreement: float
    flag_changes: float
    images_per_second: float


class EngineRecord(_Part):
    """A compiled copy of the network and how it compared with model.keras.

    Attributes
    ----------
    name : str
        Kind and precision: "openvino-int8", "openvino-bf16" or "openvino-f32".
    path : str
        Its main file, relative to the bundle; two engines may share it.
    max_z_mean_difference : float
        Largest difference of z_mean from Keras's over the galaxies compared.
    n_compared : int
        How many those were.
    precision : {"f32", "bf16"}, or None
        What it computes in, where it is not quantised; None, of bundles from before there was a choice, is "f32".
    check : EngineCheck, or None
        How else it compared; None in bundles from before that was asked for.
    """

    name: str
    path: str
    max_z_mean_difference: float
    n_compared: int
    precision: Literal["f32", "bf16"] | None = None
    check: EngineCheck | None = None


class CalibrationRecord(_Part):
    """How PDFs are recalibrated, and what it did for the galaxies that it was learned from.

    Attributes
    ----------
    parameters : Calibration
        What `photoz.calibration.apply` takes.
    n_galaxies : int
        Galaxies that the networks they were judged by had not been trained on.
    scores : dict
        Their figures "before" and "after".
    """

    parameters: Calibration
    n_galaxies: int
    scores: dict[str, dict[str, Score]]


class OodRecord(_Part):
    """How images unlike those of the training are told, by the arrays of ood.npz.

    Attributes
    ----------
    threshold : float
        An `ood_score` above it is flagged.
    false_alarms : float
        Part of the galaxies that were held out that lie above it.
    n_features : int
        Length of the network's output "features"; 0 where the score does without.
    """

    threshold: float
    false_alarms: float
    n_features: int


class Histogram(_Part):
    """How a quantity is distributed over some galaxies.

    Attributes
    ----------
    edges : tuple of float
        Upper edges of the bins, increasing; the last bin, up to infinity, is not named.
    fractions : tuple of float
        Part of the galaxies at or below each edge.
    """

    edges: tuple[float, ...]
    fractions: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> "Histogram":
        increasing = all(low < high for low, high in pairwise(self.edges))
        if not self.edges or not increasing or len(self.edges) != len(self.fractions):
            raise ValueError(f"expected increasing edges, a fraction for each, got {self.edges}, {self.fractions}")
        return self


class ReferenceRecord(_Part):
    """What the model answers for galaxies that it was not trained on, recalibrated as it is served (`photoz.drift`).

    Attributes
    ----------
    data : str
        Which galaxies, and whether their images are real.
    n_galaxies : int
        How many they are.
    histograms : dict
        Of "z_mean", "z_width68" (z_hi68 - z_lo68) and, where the model has one, "ood_score".
    """

    data: str
    n_galaxies: int
    histograms: dict[Literal["z_mean", "z_width68", "ood_score"], Histogram]


class Card(_Part):
    """Everything that is to be known of a model without opening it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    version: str
    created: datetime
    grid: RedshiftGrid
    image: ImageSpec
    inputs: Inputs
    architecture: Architecture
    training: TrainingRecord
    test: TestRecord | None = None
    calibration: CalibrationRecord | None = None
    ood: OodRecord | None = None
    reference: ReferenceRecord | None = None
    gflop: float | None = None  # of one image's way through the network; a multiplication and an addition are two
    engines: tuple[EngineRecord, ...] = ()  # the best first
    licence: str = "Apache-2.0"
    caveats: tuple[str, ...] = ()
    files: dict[str, str] = {}
    digest: str = ""

    def sealed(self, files: dict[str, str]) -> "Card":
        """Return a copy that carries the hashes of the files and, last, the hash of itself."""
        card = self.model_copy(update={"files": dict(sorted(files.items())), "digest": ""})
        return card.model_copy(update={"digest": card._digest()})

    def is_sealed(self) -> bool:
        """Whether nothing in the card has changed since it was sealed: its grid and bands above all."""
        return self.digest == self._digest()

    def _digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
