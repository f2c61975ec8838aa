"""The whole model of a bundle: its network, the calibration of its PDFs, and its judgement of what it was shown."""

import math

import numpy as np

from photoz import calibration, estimates, novelty
from photoz.bundle import ModelBundle
from photoz.errors import InvalidBundle
from photoz.estimates import Estimates
from photoz.grid import FloatArray
from photoz.novelty import FEATURES, Novelty
from service.batch import Batch
from service.engines import Engine, Output, load_engine
from service.settings import Settings


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
        self._novelty = _load_novelty(bundle)
        self._ood_threshold = bundle.card.novelty.threshold if bundle.card.novelty else math.inf
        self._engine: Engine = load_engine(bundle, settings.engine, settings.threads)

    def infer(self, batch: Batch) -> Output:
        """Run the network alone: all of the time that is not Python's."""
        return self._engine.predict(batch.images.images, batch.ebv.ebv)

    def summarise(self, batch: Batch, output: Output) -> Estimates:
        """Turn what the network said of a batch into its estimates.

        Parameters
        ----------
        batch : Batch
            n galaxies.
        output : Output
            From `infer`.

        Returns
        -------
        Estimates
            n rows, with the PDFs, recalibrated.
        """
        return estimates.from_pdfs(
            calibration.apply(output.pdfs, self._calibration),
            self._grid,
            object_id=batch.object_id,
            input_flags=estimates.flag_inputs(batch.images, batch.ebv),
            ood_score=self._ood_score(batch, output),
            ood_threshold=self._ood_threshold,
            include_pdf=True,
        )

    def predict(self, batch: Batch) -> Estimates:
        """Do both, as `summarise` says."""
        return self.summarise(batch, self.infer(batch))

    def _ood_score(self, batch: Batch, output: Output) -> FloatArray | None:
        if self._novelty is None:
            return None
        images = batch.images
        return novelty.score(self._novelty, novelty.views(images.images, output.features, images.noise))


def _load_novelty(bundle: ModelBundle) -> Novelty | None:
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
