"""Redshifts of the cutouts of `photoz sky`, by a bundle on this machine or by a service."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from photoz.inference.predictor import Predictor
from photoz.inference.reading import read_batches
from photoz.io.cutouts import Cutouts
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts
from photoz.io.tables import PASSED_COLUMNS, ResultTable, result_table
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz_client import PhotozClient, Prediction

# Returns estimates of cutouts, with their PDFs if that is true.
Predict = Callable[[Cutouts, bool], Prediction]


@dataclass(frozen=True)
class ScoringModel:
    """A model, wherever it runs."""

    card: Card
    predict: Predict


@contextmanager
def open_model(where: str) -> Iterator[ScoringModel]:
    """Open a bundle, by the path of its folder, or the model of a service, by its URL."""
    if where.startswith(("http://", "https://")):
        with PhotozClient(where) as client:
            yield ScoringModel(client.model(), partial(_by_service, client))
    else:
        bundle = ModelBundle.load(where)
        yield ScoringModel(bundle.card, partial(_by_bundle, bundle))


def predict_file(model: ScoringModel, path: Path, *, pdf: bool) -> tuple[Prediction, ResultTable]:
    """Predict the cutouts of a file: the estimates, and a table of them with the positions and redshifts of the file.

    Raises what a service or the model raise for cutouts that cannot be predicted.
    """
    with open_cutouts(path) as opened:
        cutouts, _ = conform(opened, model.card.image)
        prediction = model.predict(cutouts, pdf)
        passed = {name: cutouts.column(name) for name in PASSED_COLUMNS}
    return prediction, result_table(prediction, prediction.model, model.card.grid, passed=passed)


def _by_service(client: PhotozClient, cutouts: Cutouts, pdf: bool) -> Prediction:
    columns = cutouts.columns
    return client.predict(cutouts.images, ebv=columns["ebv"], object_id=columns["object_id"], pdf=pdf, progress=True)


def _by_bundle(bundle: ModelBundle, cutouts: Cutouts, pdf: bool) -> Prediction:
    card, predictor = bundle.card, Predictor.load(bundle, threads=len(os.sched_getaffinity(0)))
    parts = []
    for _, batch in read_batches(cutouts, card.image, card.inputs.ebv_default):
        columns = predictor.predict(batch).columns()
        parts.append({name: values for name, values in columns if pdf or name != "pdf"})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Prediction(**joined, model=f"{card.name} {card.version}")
