"""Answers of the service, and clients whose requests a function answers."""

from dataclasses import asdict

import httpx
import numpy as np

from photoz import estimates
from photoz.grid import SDSS_GRID
from photoz.images import ImageSpec
from photoz.metrics import Score
from photoz.protocol import open_inference
from photoz.protocol.contract import MODEL_HEADER, EvaluateResponse
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import Tensor
from photoz_client import PhotozClient, Retries

INDEX_PATH = "/v2/repository/index"
INFER_PATH = "/v2/models/photoz/infer"
OCTETS = "application/octet-stream"
EVALUATION = EvaluateResponse(model="photoz 1", n_galaxies=2, scores={"bias": Score(0.0012, 0.0004)}, dropped=["b"])
EVALUATIONS = {
    "application/json": EVALUATION.model_dump_json().encode(),
    "text/html": "<!doctype html>ß".encode(),
    "image/png": b"\x89PNG",
    "image/svg+xml": b"<svg/>",
}


def numbered_cutouts(n, size=8):
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, size, size, 2)).copy()


def decode(request):
    return open_inference.decode_request(request.content, int(request.headers[HEADER_LENGTH]))


def row_numbers(request):
    """Row numbers of the cutouts, which `numbered_cutouts` writes into the pixels."""
    return decode(request).inputs["images"].array[:, 0, 0, 0].astype(int)


def first_row(request):
    return int(row_numbers(request)[0])


def prediction(request, model="photoz 1", n=None):
    """Give each cutout, or the first n, a PDF in the bin of its row number, modulo the number of bins."""
    return prediction_of(request, np.eye(SDSS_GRID.n_bins)[row_numbers(request)[:n] % SDSS_GRID.n_bins], model=model)


def prediction_of(request, pdfs, grid=SDSS_GRID, model="photoz 1"):
    columns = dict(estimates.from_pdfs(pdfs, grid, include_pdf=True).columns())
    wanted = {output.name: columns[output.name] for output in decode(request).outputs or ()}
    return prediction_columns(wanted, model, grid)


def prediction_columns(columns, model="photoz 1", grid=SDSS_GRID):
    name, _, version = model.partition(" ")
    tensors = [(Tensor.of(column, values), True) for column, values in columns.items()]
    message = open_inference.encode_response(tensors, model_name=name, model_version=version, parameters=asdict(grid))
    headers = {"Content-Type": OCTETS, HEADER_LENGTH: str(message.header_length), MODEL_HEADER: model}
    return httpx.Response(200, content=message.body, headers=headers)


def bins(prediction):
    """Row numbers, which `prediction` puts into the PDFs."""
    return prediction.pdf.argmax(axis=1).tolist()


def with_card(card, predict=prediction, **changes):
    """Behave as a service with a model card, by default for the cutouts of `numbered_cutouts`."""
    changes = {"name": "photoz", "version": "1", "image": ImageSpec(size=8, bands="gr"), "grid": SDSS_GRID} | changes
    content = card.model_copy(update=changes).model_dump_json()

    def behave(request):
        accept = request.headers["Accept"]
        match request.url.path:
            case "/model":
                return httpx.Response(200, content=content, headers={"content-type": "Application/JSON; charset=utf-8"})
            case "/evaluate":
                return httpx.Response(200, content=EVALUATIONS[accept], headers={"content-type": accept})
            case "/readyz":
                return httpx.Response(200)
        return predict(request)

    return behave


def model_index(model="photoz"):
    return httpx.Response(200, json=[{"name": model, "version": "1", "state": "READY", "reason": ""}])


def error(status, message="the reason", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": message}, headers=names)


def failing_at(*rows, answer=None):
    """Behave as a service that fails for the requests that begin with these rows."""
    return lambda request: (answer or error(500)) if first_row(request) in rows else prediction(request)


def raising(failure):
    def behave(*_):
        raise failure

    return behave


def naming(handler):
    """Name the model; a function answers the other requests."""
    return lambda request: model_index() if request.url.path == INDEX_PATH else handler(request)


def mock_client(handler, **options):
    """Return a client whose requests a function answers, without retries unless they are given."""
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return PhotozClient("http://service", http=http, **{"retries": Retries(attempts=1)} | options)
