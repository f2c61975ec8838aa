"""The Predictor: from batches of cutouts to network output, recalibrated PDFs, estimates, scores and flags."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz import calibration, estimates, flags, ood
from photoz.calibration import Calibration
from photoz.errors import InvalidBundle, InvalidImages
from photoz.estimates import COLUMNS, Estimates
from photoz.grid import FloatArray, RedshiftGrid
from photoz.images import Batch
from photoz.inference.engines import AUTO, BATCH_SIZES, MAX_BATCH, Engine, NetworkOutput, load_engine
from photoz.model.bundle import ModelBundle
from photoz.ood import FEATURES, FeatureGroups

# All columns that are computed from the images.
ALL_COLUMNS = frozenset({*COLUMNS, "pdf"}) - {"object_id"}


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with its network loaded."""

    engine: Engine  # runs the network
    grid: RedshiftGrid  # of its PDFs
    _: KW_ONLY
    calibration: Calibration | None = None  # of its PDFs
    feature_groups: FeatureGroups | None = None  # of the training images; without them `ood_score` is NaN
    ood_threshold: float = math.inf  # a larger `ood_score` raises the flag OUT_OF_DISTRIBUTION
    z_range: tuple[float, float] = (0.0, math.inf)  # of the training redshifts, for the flag BEYOND_TRAINING
    takes_ebv: bool = True  # whether the network does; otherwise none is assumed

    @classmethod
    def load(
        cls,
        bundle: ModelBundle,
        *,
        engine: str = AUTO,
        threads: int = 1,
        recalibrate: bool = True,
        warm_up: bool = False,
    ) -> "Predictor":
        """Load the model of a bundle with an engine of `engine_records`, and run it once.

        Without `recalibrate` PDFs are not recalibrated. With `warm_up` the network runs on a batch of each size, so
        that no later batch is slow, or takes memory, because its size is new. Raises `InvalidBundle` if the bundle has
        no such engine, or its parts do not agree.
        """
        return cls(
            load_engine(bundle, engine, threads, BATCH_SIZES if warm_up else (1,)),
            bundle.card.grid,
            calibration=bundle.calibration if recalibrate else None,
            feature_groups=load_feature_groups(bundle),
            ood_threshold=bundle.card.ood.threshold if bundle.card.ood else math.inf,
            z_range=bundle.card.training.z_range,
            takes_ebv=bundle.card.inputs.ebv,
        )

    def run_network(self, batch: Batch) -> NetworkOutput:
        """Run the network, which takes nearly all of the time."""
        return self.engine.predict(batch.images, batch.ebv)

    def summarise(
        self, batch: Batch, output: NetworkOutput, columns: frozenset[str] = ALL_COLUMNS
    ) -> dict[str, npt.NDArray[Any]]:
        """Compute columns of `photoz.estimates.Estimates` from the network's output for a batch of n galaxies.

        Returns these columns by name, (n, ...) each, and always "pdf", recalibrated. If the network overflowed for a
        galaxy, its PDF is NaN and its other columns have no meaning.
        """
        finite = np.isfinite(output.pdfs[:, 0])
        flat = np.float64(1 / self.grid.n_bins)  # replaces missing PDFs, so that they cause no warnings
        pdfs = calibration.apply(np.where(finite[:, np.newaxis], output.pdfs, flat), self.calibration)
        computed = {"pdf": pdfs} | (estimates.summaries(pdfs, self.grid, columns) if columns != {"pdf"} else {})
        if not columns.isdisjoint({"ood_score", "flags"}):
            computed["ood_score"] = self._ood_score(batch, output)
        if "flags" in columns:
            computed["flags"] |= flags.flag_inputs(batch, takes_ebv=self.takes_ebv)
            computed["flags"] |= flags.flag_ood(computed["ood_score"], self.ood_threshold)
            computed["flags"] |= flags.flag_range(pdfs, self.grid, self.z_range)
        pdfs[~finite] = np.nan
        return computed

    def predict(self, batch: Batch) -> Estimates:
        """Return all columns of a batch; raises as `refuse_missing_pdfs`.

        Galaxies are summarised `MAX_BATCH` at a time, as by the service: the last bit of some columns depends on it.
        """
        slices = [batch[start : start + MAX_BATCH] for start in range(0, len(batch), MAX_BATCH)]
        parts = [self.summarise(some, self.run_network(some)) for some in slices]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        refuse_missing_pdfs(columns["pdf"])
        return as_estimates(batch, columns)

    def _ood_score(self, batch: Batch, output: NetworkOutput) -> FloatArray:
        if self.feature_groups is None:
            return np.full(len(batch), np.nan)
        return ood.score(self.feature_groups, ood.extract_features(batch.images, output.features, batch.border))


def refuse_missing_pdfs(pdfs: FloatArray) -> None:
    """Raise `InvalidImages` for the first galaxy whose PDF, (n, n_bins) from `Predictor.summarise`, is NaN."""
    missing = np.isnan(pdfs[:, 0])
    if missing.any():
        galaxy = int(np.argmax(missing))
        raise InvalidImages(
            f"NaN for galaxy {galaxy}: its pixel values overflow the network; mask such pixels with NaN"
        )


def as_estimates(batch: Batch, columns: Mapping[str, npt.NDArray[Any]]) -> Estimates:
    """Return the columns of a batch with the names of its galaxies."""
    return Estimates(object_id=batch.names, **{name: columns[name] for name in ALL_COLUMNS})


def load_feature_groups(bundle: ModelBundle) -> FeatureGroups | None:
    """Read the feature groups of a bundle, if it has any; raises `InvalidBundle` if they differ from its card."""
    record, n_bands = bundle.card.ood, len(bundle.card.image.bands)
    if record is None:
        return None
    groups = ood.load(bundle.ood_path)
    expected = {name: (n_bands,) for name in ("noise", "background", "sharpness", "single_band", "dark_line")}
    expected["concentration"] = (1,)
    if record.n_features:
        expected[FEATURES] = (record.n_features,)
    shapes = {name: np.shape(group.mean) for name, group in groups.items()}
    if shapes != expected:
        raise InvalidBundle(f"{bundle.ood_path} holds {shapes}; the card of {bundle.card.name} says {expected}")
    return groups
