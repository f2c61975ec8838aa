"""Learning curve: the same recipe trained on nested samples of growing size."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from photoz.grid import IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TEST, TRAIN, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import galaxy_scores, summarise
from training.cross_fitting import merge_validation
from training.ensemble import fit_ensemble
from training.evaluation import as_numbers, galaxies_digest
from training.fit import Fitted
from training.recipes import TrainingSettings
from training.splits import group_by_galaxy, numbers, usable_rows, with_split, without
from training.trained_model import TrainedModel

SIZES = (500, 1000, 2000, 4000, 8000)

RESULT = "learning-curve.json"


def learning_curve(
    data: Path, grid: RedshiftGrid, settings: TrainingSettings, folder: Path, sizes: Sequence[int] = SIZES
) -> list[dict[str, Any]]:
    """Train on samples of growing size and score each network on the same test galaxies.

    Every network is trained to its last epoch. Smaller samples are trained for more epochs, by the square root of the
    ratio of the sizes: at equal epochs a small sample would get too few steps, at equal steps it would cost as much as
    all galaxies. Validation galaxies are training galaxies too, and sizes are limited to the number of galaxies. Each
    network's run is FOLDER/N and is resumed if it was started. FOLDER/learning-curve.json is updated after each
    network; returns its points.
    """
    points: list[dict[str, Any]] = []
    with open_cutouts(data) as opened:
        cutouts = merge_validation(with_split(opened, settings.select, settings.shares))
        spec = cutouts.spec or ImageSpec(size=cutouts.images.shape[1])
        train = usable_rows(cutouts, grid, TRAIN)
        n_galaxies = len(group_by_galaxy(cutouts, train)[0])
        for n_train in sorted({min(size, n_galaxies) for size in sizes}):
            recipe = scaled(settings, n_train, n_galaxies)
            sample = subset(cutouts, train, n_train)
            fitted = fit_ensemble(sample, spec, grid, recipe, folder / str(n_train), resume=True)
            points.append(_point(n_train, fitted, cutouts, spec, grid))
            content = {
                "settings": asdict(settings),
                "data": cutouts.provenance,
                "test_galaxies": galaxies_digest(cutouts, usable_rows(cutouts, grid, TEST)),
                "points": points,
            }
            (folder / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return points


def scaled(settings: TrainingSettings, n_train: int, n_all: int) -> TrainingSettings:
    """Return the recipe for a sample of n_train out of n_all galaxies."""
    factor = math.sqrt(n_all / n_train)
    return replace(settings, epochs=math.ceil(factor * settings.epochs))


def subset(cutouts: Cutouts, train: IntArray, n_train: int) -> Cutouts:
    """Return the cutouts of n_train of the training galaxies; a smaller sample is part of every larger one."""
    first, galaxy = group_by_galaxy(cutouts, train)
    chosen = np.random.default_rng(0).permutation(len(first))[:n_train]
    return without(cutouts, train[~np.isin(galaxy, chosen)])


def _point(n_train: int, fitted: Fitted, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid) -> dict[str, Any]:
    rows = usable_rows(cutouts, grid, TEST)
    pdfs = TrainedModel(fitted.network, spec, grid, fitted.ebv_default).predict(cutouts, rows).pdfs
    scores = summarise(galaxy_scores(pdfs, numbers(cutouts, "z_spec", rows), grid))
    print(f"{n_train} galaxies: sigma_mad {scores['sigma_mad']}, crps {scores['crps']}")
    return {"n_train": n_train, "epochs": len(fitted.history), "scores": as_numbers(scores)}
