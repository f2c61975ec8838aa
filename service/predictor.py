"""The whole model of a bundle: its network, the calibration of its PDFs, and its judgement of what it was shown."""

from dataclasses import dataclass

import numpy as np

from photoz import calibration, novelty
from photoz.bundle import ModelBundle
from photoz.errors import InvalidBundle
from photoz.grid import FloatArray
from photoz.novelty import FEATURES, Novelty
from service.batch import Batch
from service.engines import Engine, load_engine
from service.settings import Settings


@dataclass(frozen=True)
class Prediction:
    """What a model says of n cutouts.

    Parameters
    ----------
    pdfs : (n, n_bins) float64
        Probability mass per bin, rows sum to 1, recalibrated.
    ood_score : (n,) float64, or None
        How unlike the training images each cutout is, where the model can tell.
    """

    pdfs: FloatArray
    ood_score: FloatArray | None


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
        self._calibration = bundle.calibration if settings.calibration else None
        self._novelty = _load_novelty(bundle)
        self._engine: Engine = load_engine(bundle, settings.engine, settings.threads)

    def predict(self, batch: Batch) -> Prediction:
        """Predict.

        Parameters
        ----------
        batch : Batch
            n galaxies.

        Returns
        -------
        Prediction
            Of n rows.

        Raises
        ------
        InvalidImages
            If the network finds no finite PDF for a cutout.
        """
        output = self._engine.predict(batch.images.images, batch.ebv.ebv)
        pdfs = calibration.apply(output.pdfs, self._calibration)
        if self._novelty is None:
            return Prediction(pdfs, None)
        return Prediction(pdfs, novelty.score(self._novelty, novelty.views(batch.images.images, output.features)))


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
