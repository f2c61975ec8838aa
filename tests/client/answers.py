"""Answers of the service, for tests with a server or a transport of their own."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from photoz import estimates
from photoz.grid import SDSS_GRID
from photoz.images import ImageSpec
from photoz.protocol import open_inference
from photoz.protocol.contract import MODEL_HEADER
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import Tensor
from photoz_client import PhotozClient, Retries

INDEX_PATH = "/v2/repository/index"
INFER_PATH = "/v2/models/photoz/infer"
OCTETS = "application/octet-stream"


def decode(content: bytes, headers: Mapping[str, str]) -> open_inference.DecodedRequest:
    return open_inference.decode_request(content, int(headers[HEADER_LENGTH]))


def images(request: httpx.Request) -> npt.NDArray[Any]:
    return decode(request.content, request.headers).inputs["images"].array


def first_row(request: httpx.Request) -> int:
    """Row number of the first cutout, which `numbered_cutouts` writes into the pixels."""
    return int(images(request)[0, 0, 0, 0])


def numbered_cutouts(n: int, size: int = 8) -> npt.NDArray[np.float32]:
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, size, size, 2)).copy()


def prediction(request: httpx.Request, model: str = "photoz 1", n: int | None = None) -> httpx.Response:
    """Give each cutout, or the first n, a PDF in the bin of its row number, modulo the number of bins."""
    bins = images(request)[:n, 0, 0, 0].astype(int) % SDSS_GRID.n_bins
    return prediction_of(request, np.eye(SDSS_GRID.n_bins)[bins], model=model)


def prediction_of(request: httpx.Request, pdfs, grid=SDSS_GRID, model: str = "photoz 1") -> httpx.Response:
    columns = dict(estimates.from_pdfs(pdfs, grid, include_pdf=True).columns())
    outputs = decode(request.content, request.headers).outputs or ()
    return prediction_columns({output.name: columns[output.name] for output in outputs}, model)


def prediction_columns(columns: Mapping[str, npt.NDArray[Any]], model: str = "photoz 1") -> httpx.Response:
    name, _, version = model.partition(" ")
    tensors = [(Tensor.of(column, values), True) for column, values in columns.items()]
    message = open_inference.encode_response(tensors, model_name=name, model_version=version)
    headers = {"Content-Type": OCTETS, HEADER_LENGTH: str(message.header_length), MODEL_HEADER: model}
    return httpx.Response(200, content=message.body, headers=headers)


def card_answer(card, **changes) -> httpx.Response:
    """Answer with a card, by default for the cutouts of `numbered_cutouts`."""
    changes = {"name": "photoz", "version": "1", "image": ImageSpec(size=8, bands="gr")} | changes
    content = card.model_copy(update=changes).model_dump_json()
    return httpx.Response(200, content=content, headers={"content-type": "application/json"})


def model_index(model: str = "photoz") -> httpx.Response:
    return httpx.Response(200, json=[{"name": model, "version": "1", "state": "READY", "reason": ""}])


def error(status: int, message: str = "the reason", **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": message}, headers=names)


def mock_client(handler: Callable[[httpx.Request], httpx.Response], **options: Any) -> PhotozClient:
    """Return a client whose requests a function answers, without retries."""
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return PhotozClient("http://service", http=http, retries=Retries(attempts=1), **options)


def mock_client_of_model(handler: Callable[[httpx.Request], httpx.Response], **options: Any) -> PhotozClient:
    """Return a mock client that knows the model's name; a function answers its other requests."""
    return mock_client(lambda request: model_index() if request.url.path == INDEX_PATH else handler(request), **options)


def raising(failure: type[Exception]):
    def behave(*_: object) -> httpx.Response:
        raise failure

    return behave
