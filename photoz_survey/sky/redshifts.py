"""Redshifts of the cutouts of `photoz sky`, by a bundle in a local folder or by a service at a URL."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from photoz.inference.predictor import Predictor
from photoz.inference.reading import read_batches
from photoz.io.cutouts import Cutouts
from photoz.io.layout import conform
from photoz.io.provenance import Provenance, now
from photoz.io.reader import open_cutouts
from photoz.io.tables import ResultTable, passed_columns, result_table
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz_client import PhotozClient, Prediction


def read_card(model: str) -> Card:
    """Return the card of a bundle, given by its folder, or of the model of a service, given by its URL."""
    if not _is_service(model):
        return ModelBundle.load(model).card
    with PhotozClient(model) as client:
        return client.model()


def predict_file(model: str, path: Path, *, pdf: bool) -> tuple[Prediction, ResultTable]:
    """Predict the cutouts of a file: the estimates, and a table of them with the positions and redshifts of the file.

    Raises the errors of the service or the `Predictor` for cutouts that cannot be predicted.
    """
    card, predict = read_card(model), _by_service if _is_service(model) else _by_bundle
    with open_cutouts(path) as opened:
        cutouts, reading = conform(opened, card.image)
        prediction = predict(model, cutouts, pdf)
        passed, _ = passed_columns(cutouts.columns, len(cutouts))  # all are numbers in what `photoz sky` writes
    provenance = Provenance(prediction.model, path.name, now(), notes=vars(reading))
    return prediction, result_table(prediction, provenance, card.grid, passed=passed)


def _is_service(model: str) -> bool:
    return model.startswith(("http://", "https://"))


def _by_service(url: str, cutouts: Cutouts, pdf: bool) -> Prediction:
    columns = {name: cutouts.columns[name] for name in ("ebv", "object_id")}
    with PhotozClient(url) as client:
        return client.predict(cutouts.images, pdf=pdf, progress=True, **columns)


def _by_bundle(folder: str, cutouts: Cutouts, pdf: bool) -> Prediction:
    bundle = ModelBundle.load(folder)
    card, predictor = bundle.card, Predictor.load(bundle, threads=len(os.sched_getaffinity(0)))
    parts = []
    for _, batch in read_batches(cutouts, card.image, card.inputs.ebv_default):
        columns = predictor.predict(batch).columns()
        parts.append({name: values for name, values in columns if pdf or name != "pdf"})
    joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Prediction(**joined, model=f"{card.name} {card.version}", grid=card.grid)
