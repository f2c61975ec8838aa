"""The whole model of a bundle: its network, the calibration of its PDFs, and its judgement of what it was shown."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz import calibration, estimates, novelty
from photoz.bundle import ModelBundle
from photoz.errors import InvalidBundle, InvalidImages
from photoz.estimates import COLUMNS, Estimates
from photoz.grid import FloatArray
from photoz.novelty import FEATURES, Novelty
from service.batch import Batch
from service.engines import Engine, Output, load_engine
from service.settings import Settings

Array = npt.NDArray[Any]

# All columns that follow from the images.
EVERYTHING = frozenset({*COLUMNS, "pdf"}) - {"object_id"}


class Predictor:
    """A model, ready to predict: everything that is the same whatever engine runs its network.

    Parameters
    ----------
    bundle : ModelBundle
        The bundle.
    settings : Settings
        Which engine, and whether PDFs are recalibrated.

    Raises
    ------
    InvalidBundle
        If the bundle has no such engine, or its parts do not fit together.
    """

    def __init__(self, bundle: ModelBundle, settings: Settings) -> None:
        self._grid = bundle.card.grid
        self._calibration = bundle.calibration if settings.calibration else None
        self._novelty = load_novelty(bundle)
        self._ood_threshold = bundle.card.novelty.threshold if bundle.card.novelty else math.inf
        self._engine: Engine = load_engine(bundle, settings.engine, settings.threads)

    def infer(self, batch: Batch) -> Output:
        """Run the network alone: all of the time that is not Python's."""
        return self._engine.predict(batch.images.images, batch.ebv.ebv)

    def summarise(self, batch: Batch, output: Output, wanted: frozenset[str] = EVERYTHING) -> dict[str, Array]:
        """Turn what the network said of a batch into its estimates.

        Parameters
        ----------
        batch : Batch
            n galaxies.
        output : Output
            From `infer`.
        wanted : frozenset of str
            Names of columns of `photoz.estimates.Estimates`; what nobody wants is not computed.

        Returns
        -------
        dict of str to (n, ...) ndarray
            These, and always "pdf", recalibrated: NaN where the network found none. What else is said of such a galaxy
            means nothing.
        """
        found = np.isfinite(output.pdfs[:, 0])
        flat = np.float64(1 / self._grid.n_bins)  # stands in for what was not found, lest it spoil the others' rows
        pdfs = calibration.apply(np.where(found[:, np.newaxis], output.pdfs, flat), self._calibration)
        columns = estimates.summaries(pdfs, self._grid, wanted) | {"pdf": pdfs}
        if not wanted.isdisjoint({"ood_score", "flags"}):
            columns["ood_score"] = self._ood_score(batch, output)
        if "flags" in wanted:
            columns["flags"] |= estimates.flag_inputs(batch.images, batch.ebv)
            columns["flags"] |= estimates.flag_novelty(columns["ood_score"], self._ood_threshold)
        pdfs[~found] = np.nan
        return columns

    def predict(self, batch: Batch) -> Estimates:
        """Do both, for all columns; `InvalidImages` as from `refuse_unmeasured`."""
        columns = self.summarise(batch, self.infer(batch))
        refuse_unmeasured(columns["pdf"])
        return as_estimates(batch, columns)

    def _ood_score(self, batch: Batch, output: Output) -> FloatArray:
        if self._novelty is None:
            return np.full(len(batch), np.nan)
        images = batch.images
        return novelty.score(self._novelty, novelty.views(images.images, output.features, images.noise))


def refuse_unmeasured(pdfs: FloatArray) -> None:
    """Raise for galaxies that the network found no PDF for.

    Parameters
    ----------
    pdfs : (n, n_bins) float64
        From `Predictor.summarise`.

    Raises
    ------
    InvalidImages
        Naming the first of them.
    """
    missing = np.isnan(pdfs[:, 0])
    if missing.any():
        raise InvalidImages(
            f"the network finds no PDF for cutout {int(np.argmax(missing))}: its pixel values are beyond all measure; "
            "mask such pixels with NaN"
        )


def as_estimates(batch: Batch, columns: Mapping[str, Array]) -> Estimates:
    """Put the columns of a batch together with the names of its galaxies, or "0", "1", ... where it has none."""
    return Estimates(object_id=batch.names, **{name: columns[name] for name in EVERYTHING})


def load_novelty(bundle: ModelBundle) -> Novelty | None:
    """Read what a bundle knows of its training images, if it does; `InvalidBundle` if its card says otherwise."""
    record, n_bands = bundle.card.novelty, len(bundle.card.image.bands)
    if record is None:
        return None
    parts = novelty.load(bundle.novelty_path)
    expected = {"noise": (n_bands,), "concentration": (1,)}
    if record.n_features:
        expected[FEATURES] = (record.n_features,)
    found = {name: np.shape(part.mean) for name, part in parts.items()}
    if found != expected:
        raise InvalidBundle(f"{bundle.novelty_path} holds {found}; the card of {bundle.card.name} says {expected}")
    return parts
