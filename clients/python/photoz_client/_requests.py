"""The requests of the client: pure functions from arrays to HTTP requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from photoz.estimates import COLUMNS
from photoz.io.formats import JSON, NPZ, Format
from photoz.io.npz import npz_bytes
from photoz.protocol import open_inference
from photoz.protocol.tensors import Tensor
from photoz_client._errors import InvalidUrl
from photoz_client._inputs import Arrays, EvaluateInputs

ANY_TYPE = "*/*"
OCTETS = "application/octet-stream"

# The columns that the service computes; names of galaxies are not sent to it.
ESTIMATES = tuple(name for name in COLUMNS if name != "object_id")

# The most bytes of a response: the estimates of a galaxy, its PDF, and a report or a plot.
MAX_ROW, MAX_PDF, MAX_FIGURES = 16 * len(ESTIMATES), 2**17, 2**26


@dataclass(frozen=True)
class PreparedRequest:
    """One HTTP request, ready to be sent to a service."""

    method: str
    path: str
    headers: Mapping[str, str]  # without the API key
    content: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    first_row: int = 0  # number of the caller's row that comes first in this request
    max_answer: int = 2**20  # bytes of the response that are read


MODEL_CARD = PreparedRequest("GET", "/model", {"Accept": JSON.media_type})
READY = PreparedRequest("GET", "/readyz", {"Accept": ANY_TYPE})
MODEL_INDEX = PreparedRequest("POST", "/v2/repository/index", {"Accept": JSON.media_type})


def predict_request(arrays: Arrays, model: str, pdf: bool = False, first_row: int = 0) -> PreparedRequest:
    """Ask the named model for predictions; `arrays` holds `images` (n, size, size, n_bands) and, if known, `ebv` (n,).

    Cutouts are sent as binary tensors of the Open Inference Protocol, each with its own number type. An `.npz` file
    would need a checksum, which costs time on both ends.
    """
    inputs = [Tensor.of(name, arrays[name]) for name in ("images", "ebv") if name in arrays]
    message = open_inference.encode_request(inputs, (*ESTIMATES, "pdf") if pdf else ESTIMATES)
    headers = {"Accept": OCTETS, "Content-Type": OCTETS, open_inference.HEADER_LENGTH: str(message.header_length)}
    path = f"/v2/models/{quote(model, safe='')}/infer"
    most = 2**20 + len(arrays["images"]) * (MAX_ROW + pdf * MAX_PDF)
    return PreparedRequest("POST", path, headers, message.body, first_row=first_row, max_answer=most)


def evaluate_request(
    inputs: EvaluateInputs, format: Format = JSON, params: Mapping[str, str] | None = None
) -> PreparedRequest:
    """Ask for scores, a report or a plot, depending on the format; `params` selects the plot."""
    headers = {"Accept": format.media_type, "Content-Type": NPZ.media_type}
    content = npz_bytes(inputs.arrays())
    # Scores come with the names of galaxies, in JSON twice as long as in the request at most.
    most = 2**20 + 2 * len(content) if format is JSON else MAX_FIGURES
    return PreparedRequest("POST", "/evaluate", headers, content, params or {}, max_answer=most)


def check_url(base_url: str) -> str:
    """Return a base URL without trailing slashes; raises `InvalidUrl` if it lacks http:// or a host."""
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
