"""How much better a network gets with more galaxies: the same recipe on nested samples of the training galaxies."""

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
from training.ensemble import fit_ensemble
from training.evaluation import as_numbers, galaxies_digest
from training.fit import Fitted
from training.held_out import all_known
from training.predict import predict_pdfs
from training.rows import UNUSED, galaxies, usable_rows, with_split
from training.settings import Settings

SIZES = (500, 1000, 2000, 4000, 8000)

RESULT = "learning-curve.json"


@dataclass(frozen=True)
class Point:
    """One network of the curve.

    Parameters
    ----------
    n_train, epochs : int
        Galaxies that it was trained on, and passes over them.
    scores : dict of str to Score
        On the test galaxies.
    """

    n_train: int
    epochs: int
    scores: dict[str, Score]


def learning_curve(
    data: Path,
    spec: ImageSpec | None,
    grid: RedshiftGrid,
    settings: Settings,
    folder: Path,
    sizes: Sequence[int] = SIZES,
) -> list[Point]:
    """Train on samples of growing size and score each network on the same test galaxies.

    Parameters
    ----------
    data : Path
        File of cutouts with z_spec.
    spec : ImageSpec, or None
        What the images are; None if the file says it.
    grid : RedshiftGrid
        The bins to be predicted.
    settings : Settings
        The recipe of the network that is trained on all galaxies.
    folder : Path
        Each network's run is FOLDER/N, resumed if it was begun; the result is FOLDER/learning-curve.json, written anew
        after each network.
    sizes : sequence of int
        Numbers of training galaxies; one beyond the sample means all of it, those that would validate included.

    Returns
    -------
    list of Point
        By increasing number of galaxies.

    Notes
    -----
    Every network is trained to its last epoch. Epochs grow as the square root of the ratio of the sizes: with the same
    number of passes a small sample would be given too few steps to be learnt, with the same number of steps it would
    cost as much as all galaxies.
    """
    points: list[Point] = []
    with open_cutouts(data) as opened:
        cutouts = all_known(with_split(opened, settings.select, settings.shares))
        spec = spec or cutouts.spec or ImageSpec(size=cutouts.images.shape[1])
        train = usable_rows(cutouts, grid, TRAIN)
        n_galaxies = len(galaxies(cutouts, train)[0])
        for n_train in sorted({min(size, n_galaxies) for size in sizes}):
            recipe = scaled(settings, n_train, n_galaxies)
            fitted = fit_ensemble(
                subset(cutouts, train, n_train), spec, grid, recipe, folder / str(n_train), resume=True
            )
            points.append(_point(n_train, fitted, cutouts, spec, grid))
            _write(folder / RESULT, points, cutouts, grid, settings)
    return points


def scaled(settings: Settings, n_train: int, n_all: int) -> Settings:
    """Return the recipe for a sample of n_train out of n_all galaxies."""
    factor = math.sqrt(n_all / n_train)
    return replace(settings, epochs=math.ceil(factor * settings.epochs))


def subset(cutouts: Cutouts, train: IntArray, n_train: int) -> Cutouts:
    """Return the cutouts of n_train of the training galaxies; a smaller sample is part of every larger one."""
    first, galaxy = galaxies(cutouts, train)
    kept = np.random.default_rng(0).permutation(len(first))[:n_train]
    split = np.array(cutouts.column("split"))
    split[train[~np.isin(galaxy, kept)]] = UNUSED
    return replace(cutouts, columns={**cutouts.columns, "split": split})


def _point(n_train: int, fitted: Fitted, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid) -> Point:
    rows = usable_rows(cutouts, grid, TEST)
    pdfs = predict_pdfs(fitted.model, cutouts, rows, spec, fitted.ebv_assumed)
    scores = summarise(galaxy_scores(pdfs, cutouts.column("z_spec")[rows], grid))
    print(f"{n_train} galaxies: sigma_mad {scores['sigma_mad']}, crps {scores['crps']}")
    return Point(n_train, len(fitted.history), scores)


def _write(path: Path, points: list[Point], cutouts: Cutouts, grid: RedshiftGrid, settings: Settings) -> None:
    content = {
        "settings": asdict(settings),
        "data": cutouts.provenance,
        "test_galaxies": galaxies_digest(cutouts, usable_rows(cutouts, grid, TEST)),
        "points": [{**asdict(point), "scores": as_numbers(point.scores)} for point in points],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
