"""Learning curve: the same recipe trained on nested samples of growing size."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from photoz.grid import IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TEST, TRAIN, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from training.cross_fitting import merge_validation
from training.ensemble import fit_ensemble
from training.evaluation import galaxies_digest
from training.fit import Fitted
from training.recipes import TrainingSettings
from training.splits import UNUSED, group_by_galaxy, numbers, usable_rows, with_labels, with_split
from training.trained_model import TrainedModel

SIZES = (500, 1000, 2000, 4000, 8000)

RESULT = "learning-curve.json"


@dataclass(frozen=True)
class Point:
    """One network of the curve and its scores on the test galaxies."""

    n_train: int
    epochs: int
    scores: dict[str, Score]


def learning_curve(
    data: Path, grid: RedshiftGrid, settings: TrainingSettings, folder: Path, sizes: Sequence[int] = SIZES
) -> list[Point]:
    """Train on samples of growing size and score each network on the same test galaxies.

    Every network is trained to its last epoch. The number of epochs grows with the square root of the ratio of the
    sizes: at equal epochs a small sample would get too few steps, at equal steps it would cost as much as all galaxies.
    Validation galaxies are training galaxies too, and a size beyond the sample means all of them. Each network's run is
    FOLDER/N and is resumed if it was started. FOLDER/learning-curve.json is updated after each network.
    """
    points: list[Point] = []
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
            _write(folder / RESULT, points, cutouts, grid, settings)
    return points


def scaled(settings: TrainingSettings, n_train: int, n_all: int) -> TrainingSettings:
    """Return the recipe for a sample of n_train out of n_all galaxies."""
    factor = math.sqrt(n_all / n_train)
    return replace(settings, epochs=math.ceil(factor * settings.epochs))


def subset(cutouts: Cutouts, train: IntArray, n_train: int) -> Cutouts:
    """Return the cutouts of n_train of the training galaxies; a smaller sample is part of every larger one."""
    first, galaxy = group_by_galaxy(cutouts, train)
    kept = np.random.default_rng(0).permutation(len(first))[:n_train]
    split = np.array(cutouts.column("split"))
    split[train[~np.isin(galaxy, kept)]] = UNUSED
    return with_labels(cutouts, split)


def _point(n_train: int, fitted: Fitted, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid) -> Point:
    rows = usable_rows(cutouts, grid, TEST)
    pdfs = TrainedModel(fitted.network, spec, grid, fitted.ebv_default).predict(cutouts, rows).pdfs
    scores = summarise(galaxy_scores(pdfs, numbers(cutouts, "z_spec", rows), grid))
    print(f"{n_train} galaxies: sigma_mad {scores['sigma_mad']}, crps {scores['crps']}")
    return Point(n_train, len(fitted.history), scores)


def _write(path: Path, points: list[Point], cutouts: Cutouts, grid: RedshiftGrid, settings: TrainingSettings) -> None:
    content = {
        "settings": asdict(settings),
        "data": cutouts.provenance,
        "test_galaxies": galaxies_digest(cutouts, usable_rows(cutouts, grid, TEST)),
        "points": [asdict(point) for point in points],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
