"""How much of the shipped model's scores is chance: its recipe trained twice more with other seeds, and the medians.

All three are recalibrated with the calibration of the shipped bundle, which was fitted with the same recipe, on
galaxies outside the test set. The other methods' scores are in the card of the bundle.

    python -m benchmarks.science seeds

needs data/sample.h5 and models/photoz. Trained models stay in runs/seeds and are not trained again.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks.harness.results import table
from photoz import calibration
from photoz.io.cutouts import TEST, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from photoz.model.bundle import ModelBundle
from training.cross_fitting import merge_validation
from training.ensemble import fit_ensemble
from training.recipes import TrainingSettings
from training.splits import usable_rows
from training.trained_model import TrainedModel

BUNDLE, DATA, RUNS = Path("models/photoz"), Path("data/sample.h5"), Path("runs/seeds")
MORE = 2

# Reference methods, by their names in the card: the model's sigma_mad is divided by theirs.
LIMIT = "local linear regression, true-profile fluxes of the cutouts"
APERTURE = "local linear regression, aperture fluxes of the cutouts"


def main(arguments: Sequence[str]) -> None:
    """Train what is not yet trained and print the table."""
    bundle = ModelBundle.load(BUNDLE)
    settings = TrainingSettings(**bundle.card.training.hyper_parameters)
    with open_cutouts(DATA) as cutouts:
        shipped = keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)
        found = {settings.seed: _score(shipped, bundle, cutouts)}
        for number in range(1, MORE + 1):
            seed = settings.seed + number * settings.seeds
            recipe = replace(settings, seed=seed)
            card, known = bundle.card, merge_validation(cutouts)
            fitted = fit_ensemble(known, card.image, card.grid, recipe, RUNS / str(seed), resume=True)
            found[seed] = _score(fitted.network, bundle, cutouts)
    _print(found, bundle)


def _score(model: keras.Model, bundle: ModelBundle, cutouts: Cutouts) -> dict[str, Score]:
    card = bundle.card
    rows = usable_rows(cutouts, card.grid, TEST)
    raw = TrainedModel(model, card.image, card.grid, card.inputs.ebv_default).predict(cutouts, rows).raw_pdfs
    pdfs = calibration.apply(raw, bundle.calibration)
    return summarise(galaxy_scores(pdfs, cutouts.column("z_spec")[rows], card.grid))


def _print(found: dict[int, dict[str, Score]], bundle: ModelBundle) -> None:
    metrics = list(next(iter(found.values())))
    rows = [(str(seed), *(str(scores[metric]) for metric in metrics)) for seed, scores in found.items()]
    values = {metric: [scores[metric].value for scores in found.values()] for metric in metrics}
    medians = {metric: statistics.median(values[metric]) for metric in metrics}
    rows.append(("**median**", *(f"{medians[metric]:.4f}" for metric in metrics)))
    print(table(("seeds from", *metrics), rows))
    print(f"\nlargest less smallest: {', '.join(f'{metric} {np.ptp(values[metric]):.4f}' for metric in metrics)}")
    for method in (LIMIT, APERTURE):
        other = bundle.card.test.scores[method]["sigma_mad"].value
        print(f"median sigma_mad / that of {method}: {medians['sigma_mad'] / other:.3f}")
