"""The service's end of the wire, for tests with a service of their own: what it was asked, and good answers to it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz import estimates
from photoz.grid import SDSS_GRID
from photoz.protocol import open_inference
from photoz.protocol.contract import MODEL_HEADER
from photoz.protocol.open_inference import HEADER_LENGTH, Request
from photoz.protocol.tensors import Tensor

NAMES_PATH = "/v2/repository/index"
INFER_PATH = "/v2/models/photoz/infer"
OCTETS = "application/octet-stream"


def names(model: str = "photoz") -> list[dict[str, str]]:
    """List the one model there is, as `NAMES_PATH` does."""
    return [{"name": model, "version": "1", "state": "READY", "reason": ""}]


def asked(content: bytes, headers: Mapping[str, str]) -> Request:
    """Read what a client sent."""
    return open_inference.decode_request(content, int(headers[HEADER_LENGTH]))


def message(columns: Mapping[str, npt.NDArray[Any]], model: str = "photoz 1") -> tuple[bytes, dict[str, str]]:
    """Answer with some columns: the body and its headers."""
    name, _, version = model.partition(" ")
    tensors = [(Tensor.of(column, values), True) for column, values in columns.items()]
    written = open_inference.encode_response(tensors, model_name=name, model_version=version)
    return written.body, {"Content-Type": OCTETS, HEADER_LENGTH: str(written.header_length), MODEL_HEADER: model}


def answer(request: Request, bins: npt.NDArray[np.int_], model: str = "photoz 1") -> tuple[bytes, dict[str, str]]:
    """Answer with what was asked for, of galaxies that lie in the given bins for certain."""
    table = dict(estimates.from_pdfs(np.eye(SDSS_GRID.n_bins)[bins], SDSS_GRID, include_pdf=True).columns())
    return message({output.name: table[output.name] for output in request.outputs or ()}, model)
