"""What each part of the compact network's recipe buys: one part is left out at a time.

The galaxies outside the test set are divided into five folds; each variant is trained without the first, to the last
epoch, and scored on it. The last column is the difference of the mean CRPS from the whole recipe's on the same
galaxies, with its bootstrap error. One seed each: the line "another seed" shows what chance alone does.

    python -m benchmarks.science ablations [VARIANT ...]

needs data/sample.h5, as `make train` draws it. Trained models stay in runs/ablations and are not trained again.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from keras import layers

from benchmarks.harness.results import table
from photoz.grid import SDSS_GRID, FloatArray, IntArray
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import TRAIN, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import GalaxyScores, galaxy_scores, summarise
from training import objectives
from training.architectures import compact
from training.cross_fitting import assign_folds, merge_validation
from training.ensemble import fit_ensemble
from training.recipes import settings_for
from training.splits import UNUSED, group_by_galaxy, without
from training.trained_model import TrainedModel

DATA, RUNS = Path("data/sample.h5"), Path("runs/ablations")
N_FOLDS = 5
RECIPE = settings_for("compact", epochs=8)  # of the shipped model
METRICS = ("crps", "sigma_mad", "outlier_fraction", "pit_ks")
N_RESAMPLES = 500


@dataclass(frozen=True)
class Variant:
    """A recipe that differs in one part: fields of `Settings`, names in the code (module, name, value), or the data.

    With `one_render`, only the first cutout of each galaxy is trained on.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    patches: tuple[tuple[Any, str, Any], ...] = ()
    one_render: bool = False


VARIANTS = {
    "the whole recipe": Variant(),
    "another seed": Variant({"seed": 1}),
    "three seeds averaged": Variant({"seeds": 3}),
    "no defects": Variant({"defects": 0.0}),
    "E(B-V) always known": Variant({"unknown_ebv": 0.0}),
    "one render of each galaxy": Variant({"epochs": 4 * RECIPE.epochs}, one_render=True),
    "no linear fluxes, the trunk alone": Variant(patches=((compact, "_magnitudes_and_colours", lambda *_: ()),)),
    "no learned weight maps": Variant(patches=((compact, "N_MAPS", 0),)),
    "a free softmax for the mixture": Variant(
        patches=((compact, "mixture_head", lambda x, grid: layers.Dense(grid.n_bins, activation="softmax")(x)),)
    ),
    "one-hot cross-entropy": Variant({"objective": "one-hot"}),
    "CRPS alone": Variant(patches=((objectives, "ENTROPY_WEIGHT", 0.0),)),
    "soft cross-entropy alone": Variant(patches=((objectives, "CRPS_WEIGHT", 0.0),)),
    "weights not averaged": Variant({"ema_momentum": 0.0}),
    "a constant rate": Variant({"schedule": "constant"}),
}


def main(names: Sequence[str]) -> None:
    """Train what is not yet trained and print the table."""
    rows, reference = [], None
    with open_cutouts(DATA) as opened:
        merged = merge_validation(opened)
        train, fold_of = assign_folds(merged, SDSS_GRID, N_FOLDS)
        cutouts, held_out = without(merged, train[fold_of == 0]), group_by_galaxy(merged, train[fold_of == 0])[0]
        z_spec = cutouts.column("z_spec")[held_out]
        for name in names or VARIANTS:
            found = galaxy_scores(_predict(name, cutouts, held_out), z_spec, SDSS_GRID)
            reference = reference or found
            scores = summarise(found)
            rows.append((name, *(str(scores[metric]) for metric in METRICS), _difference(found, reference)))
    print(f"{len(held_out)} galaxies that were not trained on\n\n{table(('', *METRICS, 'CRPS more by'), rows)}")


def _predict(name: str, cutouts: Cutouts, rows: IntArray) -> FloatArray:
    variant = VARIANTS[name]
    settings = replace(RECIPE, **variant.settings)
    trained_on = _first_renders(cutouts) if variant.one_render else cutouts
    run = RUNS / name.replace(" ", "-").replace(",", "")
    with ExitStack() as stack:
        for target, attribute, value in variant.patches:
            stack.enter_context(patch.object(target, attribute, value))
        fitted = fit_ensemble(trained_on, SDSS_IMAGES, SDSS_GRID, settings, run, resume=True)
    model = TrainedModel(fitted.network, SDSS_IMAGES, SDSS_GRID, fitted.ebv_default)
    return model.predict(cutouts, rows).raw_pdfs


def _first_renders(cutouts: Cutouts) -> Cutouts:
    train = cutouts.rows(TRAIN)
    split = np.array(cutouts.column("split"))
    split[np.setdiff1d(train, group_by_galaxy(cutouts, train)[0])] = UNUSED
    return replace(cutouts, columns={**cutouts.columns, "split": split})


def _difference(found: GalaxyScores, reference: GalaxyScores) -> str:
    """Mean difference in CRPS and its bootstrap error, both in units of 1e-5."""
    difference = 1e5 * (found.crps - reference.crps)
    draws = np.random.default_rng(0).integers(0, len(difference), (N_RESAMPLES, len(difference)))
    return f"{difference.mean():+.0f} ± {difference[draws].mean(axis=1).std():.0f} e-5"
