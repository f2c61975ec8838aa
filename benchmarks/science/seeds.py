"""How much of the shipped model's scores is chance: its recipe trained twice more with other seeds, and the medians.

All three are recalibrated as the shipped bundle says: its calibration was learned by the same recipe, on galaxies that
are not tested on. The other methods' scores are in the card of the bundle.

    python -m benchmarks.seeds

needs data/sample.h5 and models/photoz. What is trained stays in runs/seeds and is not trained again.
"""

import statistics
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from photoz import calibration
from photoz.io.cutouts import TEST, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from photoz.model.bundle import ModelBundle
from training.ensemble import fit_ensemble
from training.held_out import all_known
from training.predict import predict_pdfs
from training.rows import usable_rows
from training.settings import Settings

BUNDLE, DATA, RUNS = Path("models/photoz"), Path("data/sample.h5"), Path("runs/seeds")
MORE = 2

# Reference methods, as the card names them, whose sigma_mad the model's is divided by.
LIMIT = "local linear regression, true-profile fluxes of the cutouts"
APERTURE = "local linear regression, aperture fluxes of the cutouts"


def main() -> None:
    """Train what is not yet trained and print the table."""
    bundle = ModelBundle.load(BUNDLE)
    settings = Settings(**bundle.card.training.hyper_parameters)
    with open_cutouts(DATA) as cutouts:
        shipped = keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)
        found = {settings.seed: _score(shipped, bundle, cutouts)}
        for number in range(1, MORE + 1):
            seed = settings.seed + number * settings.seeds
            recipe = replace(settings, seed=seed)
            everyone = all_known(cutouts)
            card = bundle.card
            fitted = fit_ensemble(everyone, card.image, card.grid, recipe, RUNS / str(seed), resume=True)
            found[seed] = _score(fitted.model, bundle, cutouts)
    _print(found, bundle)


def _score(model: keras.Model, bundle: ModelBundle, cutouts: Cutouts) -> dict[str, Score]:
    card = bundle.card
    rows = usable_rows(cutouts, card.grid, TEST)
    raw = predict_pdfs(model, cutouts, rows, card.image, card.inputs.ebv_assumed)
    pdfs = calibration.apply(raw, bundle.calibration)
    return summarise(galaxy_scores(pdfs, cutouts.column("z_spec")[rows], card.grid))


def _print(found: dict[int, dict[str, Score]], bundle: ModelBundle) -> None:
    figures = list(next(iter(found.values())))
    print(f"| seeds from | {' | '.join(figures)} |\n| --- |{' --- |' * len(figures)}")
    for seed, scores in found.items():
        print(f"| {seed} | {' | '.join(str(scores[figure]) for figure in figures)} |")
    medians = {figure: statistics.median(scores[figure].value for scores in found.values()) for figure in figures}
    print(f"| **median** | {' | '.join(f'{medians[figure]:.4f}' for figure in figures)} |\n")
    spread = {figure: np.ptp([scores[figure].value for scores in found.values()]) for figure in figures}
    print(f"largest less smallest: {', '.join(f'{figure} {spread[figure]:.4f}' for figure in figures)}")
    for method in (LIMIT, APERTURE):
        other = bundle.card.test.scores[method]["sigma_mad"].value
        print(f"median sigma_mad / that of {method}: {medians['sigma_mad'] / other:.3f}")


if __name__ == "__main__":
    main()
