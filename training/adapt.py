"""Adapt a model to a survey with a few hundred redshifts.

A network can be adapted in two steps, each of which needs more galaxies than the one before: gains of the bands
(`training.band_gains`), and all weights, at a tenth of the learning rate. Which of them pays is measured by
cross-fitting: the galaxies are divided into folds, and each is predicted by networks that were adapted on the others. A
step is taken if it improves the CRPS by more than its error; otherwise the network stays as it is. Recalibration and
OOD statistics are fitted to the same predictions, starting from those of the model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from photoz import calibration
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.io.cutouts import TRAIN, Cutouts
from photoz.metrics import crps
from photoz.model.card import Card
from training.band_gains import apply_gains, fit_gains
from training.calibration_fit import fit_parameters
from training.feature_groups import adapt_feature_groups
from training.fit import fit, train_network
from training.learning_curve import scaled
from training.pixel_statistics import pixel_statistics
from training.recipes import BY_ARCHITECTURE, TrainingSettings
from training.splits import group_by_galaxy, numbers, without
from training.trained_model import Predictions, TrainedModel

N_FOLDS = 4

AS_IT_IS, GAINS, WEIGHTS = "network as it is", "band gains", "all weights"
FROM_NOTHING = "from nothing"  # no step: a network that is trained on the same galaxies alone, to compare with

BATCH_SIZE, STEPS, MIN_EPOCHS = 32, 200, 10  # of the training of all weights
LEARNING_RATE = 0.1  # in units of that of the model's training

N_OF_RECIPE = 8000  # galaxies for which the epochs of a recipe are meant


@dataclass(frozen=True)
class Adaptation:
    """How a model is adapted: together with the data, this determines the result."""

    settings: TrainingSettings
    seed: int = 0
    only_calibration: bool = False
    from_nothing: bool = False
    resume: bool = False

    @classmethod
    def of(cls, card: Card, **options: Any) -> "Adaptation":
        """Return the recipe for a model, which follows the one of its training."""
        trained = TrainingSettings(**card.training.hyper_parameters)
        settings = replace(trained, folds=0, seeds=1, select="", shares="", batch_size=BATCH_SIZE, schedule="cosine")
        settings = replace(settings, learning_rate=LEARNING_RATE * trained.learning_rate, ema_momentum=0.99)
        return cls(replace(settings, seed=options.get("seed", 0)), **options)


@dataclass(frozen=True)
class AdaptedNetwork:
    """A network after some of the steps."""

    network: keras.Model
    gains: FloatArray | None = None  # (n_bands,) of the pixels, if they were fitted


def adapt_network(
    model: TrainedModel, cutouts: Cutouts, adaptation: Adaptation, run: Path, last: str = FROM_NOTHING
) -> dict[str, AdaptedNetwork]:
    """Adapt the network of a model to the training galaxies; return it after each step up to the last, by its name."""
    networks = {AS_IT_IS: AdaptedNetwork(model.network)}
    if adaptation.only_calibration or last == AS_IT_IS:
        return networks
    common = (cutouts, model.spec, model.grid)
    options: dict[str, Any] = {"ebv_default": model.ebv_default, "resume": adaptation.resume}
    gains = fit_gains(model.network, *common, adaptation.settings, run / "gains", **options)
    networks[GAINS] = AdaptedNetwork(apply_gains(model.network, gains), gains)
    if last == GAINS:
        return networks
    network = apply_gains(model.network, gains)
    _freeze_normalisation(network)
    train = cutouts.rows(TRAIN)
    epochs = max(MIN_EPOCHS, math.ceil(STEPS * BATCH_SIZE / len(train)))
    settings = replace(adaptation.settings, epochs=epochs, patience=epochs)
    noise = pixel_statistics(cutouts, train, model.spec).noise
    checkpoint = train_network(network, *common, settings, run / "weights", noise=noise, **options)
    tuned = apply_gains(model.network, gains)
    tuned.set_weights(checkpoint.best_weights)
    networks[WEIGHTS] = AdaptedNetwork(tuned, gains)
    if adaptation.from_nothing and last == FROM_NOTHING:
        recipe = scaled(BY_ARCHITECTURE[settings.architecture], len(train), N_OF_RECIPE)
        alone = fit(cutouts, *common[1:], recipe, run / "from-nothing", resume=adaptation.resume)
        networks[FROM_NOTHING] = AdaptedNetwork(alone.network)
    return networks


def _freeze_normalisation(network: keras.Model) -> None:
    """Keep the statistics of the layers: those of few galaxies are worse."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, keras.Model):  # of an average of networks
            _freeze_normalisation(layer)


@dataclass(frozen=True)
class CrossFitted:
    """Predictions for n galaxies by models that were adapted without them."""

    rows: IntArray  # (n,) in the cutouts, those of a fold after those of another
    fold: IntArray  # (n,)
    z_spec: FloatArray  # (n,)
    models: Mapping[str, list[TrainedModel]]  # by step, one for each fold
    predictions: Mapping[str, Predictions]  # by step, not recalibrated
    pdfs: Mapping[str, FloatArray]  # by step, recalibrated by the galaxies of the other folds

    def crps(self, step: str, grid: RedshiftGrid) -> FloatArray:
        """Return the CRPS of each galaxy, (n,)."""
        return crps(self.pdfs[step], self.z_spec, grid)


def cross_fit(
    model: TrainedModel, cutouts: Cutouts, rows: IntArray, fold: IntArray, adaptation: Adaptation, run: Path
) -> CrossFitted:
    """Adapt a model without each fold, and predict that fold; rows (n,) and their folds are those of `assign_folds`."""
    models: dict[str, list[TrainedModel]] = {}
    parts: dict[str, list[Predictions]] = {}
    held_out = [group_by_galaxy(cutouts, rows[fold == number])[0] for number in range(fold.max() + 1)]
    for number, left_out in enumerate(held_out):
        others = without(cutouts, rows[fold == number])
        for step, adapted in adapt_network(model, others, adaptation, run / f"fold-{number}").items():
            groups = {} if step == FROM_NOTHING else model.feature_groups  # which are those of the network's features
            one = adapt_statistics(replace(model, feature_groups=groups), adapted.network, others)
            models.setdefault(step, []).append(one)
            parts.setdefault(step, []).append(one.predict(cutouts, left_out))
    joined = np.concatenate(held_out)
    folds = np.repeat(np.arange(len(held_out)), [len(part) for part in held_out])
    z_spec = numbers(cutouts, "z_spec", joined)
    predictions = {step: join(part) for step, part in parts.items()}
    pdfs = {step: _recalibrate(model, predictions[step].raw_pdfs, z_spec, folds) for step in parts}
    return CrossFitted(joined, folds, z_spec, models, predictions, pdfs)


def adapt_statistics(model: TrainedModel, network: keras.Model, cutouts: Cutouts) -> TrainedModel:
    """Return a model with another network and the OOD statistics of the training galaxies; it does not recalibrate."""
    adapted = replace(model, network=network, calibration=None, ood_threshold=math.inf)
    if not model.feature_groups:
        return adapted
    first, _ = group_by_galaxy(cutouts, cutouts.rows(TRAIN))
    groups = adapt_feature_groups(model.feature_groups, adapted.features(cutouts, first))
    return replace(adapted, feature_groups=groups)


def join(parts: list[Predictions]) -> Predictions:
    """Join predictions for several sets of galaxies."""
    return Predictions(*(np.concatenate(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True)))


def _recalibrate(model: TrainedModel, raw_pdfs: FloatArray, z_spec: FloatArray, fold: IntArray) -> FloatArray:
    """Recalibrate the PDFs of each fold with parameters fitted to the others."""
    pdfs = np.empty_like(raw_pdfs)
    for number in range(fold.max() + 1):
        others = fold != number
        parameters = fit_parameters(raw_pdfs[others], z_spec[others], model.grid, model.calibration)
        pdfs[~others] = calibration.apply(raw_pdfs[~others], parameters)
    return pdfs


def choose_step(fitted: CrossFitted, grid: RedshiftGrid) -> str:
    """Return the last step that improves the CRPS by more than its error."""
    chosen, *others = fitted.models
    for step in others:
        if step == FROM_NOTHING:
            continue
        gain = fitted.crps(chosen, grid) - fitted.crps(step, grid)
        if gain.mean() > gain.std() / math.sqrt(len(gain)):
            chosen = step
    return chosen
