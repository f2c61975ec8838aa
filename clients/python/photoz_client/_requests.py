"""The requests that the client sends: pure functions from arrays to HTTP requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from photoz.estimates import COLUMNS
from photoz.io.npz import npz_bytes
from photoz.protocol import open_inference
from photoz.protocol.contract import JSON, NPZ
from photoz.protocol.tensors import Tensor
from photoz_client._errors import InvalidUrl
from photoz_client._inputs import Arrays, EvaluateInputs

ANY_TYPE = "*/*"
OCTETS = "application/octet-stream"

# The columns that the service computes; it would only send the names back.
ESTIMATES = tuple(name for name in COLUMNS if name != "object_id")


@dataclass(frozen=True)
class Request:
    """One HTTP request, not sent yet."""

    method: str
    path: str
    accept: str = JSON
    content: bytes = b""
    content_type: str = NPZ
    header_length: int | None = None  # of the JSON at the start of an Open Inference Protocol message with tensors
    params: Mapping[str, str] = field(default_factory=dict)
    first_row: int = 0  # number of the caller's row that comes first in this request

    @property
    def headers(self) -> dict[str, str]:
        """The headers, without the API key."""
        headers = {"Accept": self.accept}
        if self.content:
            headers["Content-Type"] = self.content_type
        if self.header_length is not None:
            headers[open_inference.HEADER_LENGTH] = str(self.header_length)
        return headers


MODEL_CARD = Request("GET", "/model")
READY = Request("GET", "/readyz", ANY_TYPE)
MODEL_INDEX = Request("POST", "/v2/repository/index")


def predict_request(arrays: Arrays, model: str, pdf: bool = False, first_row: int = 0) -> Request:
    """Ask the named model for predictions; `arrays` holds `images` (n, size, size, n_bands) and, if known, `ebv` (n,).

    Cutouts are sent as binary tensors of the Open Inference Protocol, each in its own number type. An `.npz` file would
    need a checksum, which costs time on both ends.
    """
    inputs = [Tensor.of(name, arrays[name]) for name in ("images", "ebv") if name in arrays]
    message = open_inference.encode_request(inputs, (*ESTIMATES, "pdf") if pdf else ESTIMATES)
    return Request(
        "POST",
        f"/v2/models/{quote(model, safe='')}/infer",
        accept=OCTETS,
        content=message.body,
        content_type=OCTETS,
        header_length=message.header_length,
        first_row=first_row,
    )


def evaluate_request(inputs: EvaluateInputs, accept: str = JSON, params: Mapping[str, str] | None = None) -> Request:
    """Ask for scores, a report or a plot, depending on the media type; `params` selects the plot."""
    return Request("POST", "/evaluate", accept, npz_bytes(inputs.arrays()), params=params or {})


def check_url(base_url: str) -> str:
    """Return a base URL without its last slash; raises `InvalidUrl` if it lacks http:// or a host."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InvalidUrl(f"{base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidUrl(f"expected a URL such as http://127.0.0.1:3000, got {base_url!r}")
    return base_url.rstrip("/")


def redact_url(url: str | httpx.URL) -> str:
    """Return a URL for messages: without user name, password and query."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None))
