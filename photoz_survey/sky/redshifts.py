"""Redshifts of the cutouts of `photoz sky`, by a bundle in a local folder or by a service at a URL."""

from pathlib import Path

from photoz.io.layout import conform
from photoz.io.provenance import Provenance, now
from photoz.io.reader import open_cutouts
from photoz.io.tables import ResultTable, passed_columns, result_table
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz_client import LocalClient, PhotozClient, Prediction


def read_card(model: str) -> Card:
    """Return the card of a bundle, given by its folder, or of the model of a service, given by its URL."""
    if not _is_service(model):
        return ModelBundle.load(model).card
    with PhotozClient(model) as client:
        return client.model()


def predict_file(model: str, path: Path, *, pdf: bool) -> tuple[Prediction, ResultTable]:
    """Predict the cutouts of a file: the estimates, and a table of them with the positions and redshifts of the file.

    Raises the errors of `PhotozClient.predict` for cutouts that cannot be predicted.
    """
    with PhotozClient(model) if _is_service(model) else LocalClient(model) as client, open_cutouts(path) as opened:
        card = client.model()
        cutouts, reading = conform(opened, card.image)
        columns = {name: cutouts.columns[name] for name in ("ebv", "object_id")}
        prediction = client.predict(cutouts.images, pdf=pdf, progress=True, **columns)
        passed, _ = passed_columns(cutouts.columns, len(cutouts))
    provenance = Provenance(prediction.model, path.name, now(), notes=vars(reading))
    return prediction, result_table(prediction, provenance, card.grid, passed=passed)


def _is_service(model: str) -> bool:
    return model.startswith(("http://", "https://"))
