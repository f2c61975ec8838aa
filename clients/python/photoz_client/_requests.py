"""What is asked of the service: pure functions from arrays to calls, for any kind of client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import numpy.typing as npt

from photoz.estimates import COLUMNS
from photoz.io.cutouts import ImageSource
from photoz.io.npz import npz_bytes
from photoz.protocol import open_inference
from photoz.protocol.contract import JSON, NPZ
from photoz.protocol.tensors import Tensor
from photoz_client import _arrays
from photoz_client._errors import InvalidUrl
from photoz_client._galaxies import Arrays

ANY_TYPE = "*/*"
OCTETS = "application/octet-stream"

# The columns that the service computes; it would only send the names back.
ESTIMATES = tuple(name for name in COLUMNS if name != "object_id")


@dataclass(frozen=True)
class Call:
    """One HTTP request, not sent yet.

    Parameters
    ----------
    method, path : str
        Such as "POST", "/evaluate".
    accept : str
        Media type of the answer.
    content : bytes
        The body.
    content_type : str
        Media type of the body.
    header_length : int, or None
        How much of the body is JSON, where it is a message of the Open Inference Protocol with tensors behind.
    params : mapping of str to str
        The query.
    first_row : int
        Which of the caller's rows is the first in this call.
    """

    method: str
    path: str
    accept: str = JSON
    content: bytes = b""
    content_type: str = NPZ
    header_length: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    first_row: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        headers = {"Accept": self.accept}
        if self.content:
            headers["Content-Type"] = self.content_type
        if self.header_length is not None:
            headers[open_inference.HEADER_LENGTH] = str(self.header_length)
        return headers


def model_call() -> Call:
    """Ask for the model's card."""
    return Call("GET", "/model")


def ready_call() -> Call:
    """Ask whether the service is ready."""
    return Call("GET", "/readyz", ANY_TYPE)


def model_names_call() -> Call:
    """Ask for the names of the models that there are: one, here."""
    return Call("POST", "/v2/repository/index")


def predict_call(arrays: Arrays, model: str, pdf: bool = False, first_row: int = 0) -> Call:
    """Ask for predictions: the one place that knows how cutouts travel; `_responses.prediction` reads the answer.

    They go as binary tensors of the Open Inference Protocol, each in its own number type. An `.npz` file would carry a
    checksum, which both ends have to compute.

    Parameters
    ----------
    arrays : dict
        `images` (n, size, size, n_bands) and, where it is known, `ebv` (n,).
    model : str
        Name of the service's model.
    pdf : bool
        Ask for the PDFs too.
    first_row : int
        Which of the caller's rows is the first of these.

    Returns
    -------
    Call
        All of them in one.
    """
    inputs = [Tensor.of(name, arrays[name]) for name in ("images", "ebv") if name in arrays]
    message = open_inference.encode_request(inputs, (*ESTIMATES, "pdf") if pdf else ESTIMATES)
    return Call(
        "POST",
        f"/v2/models/{quote(model, safe='')}/infer",
        accept=OCTETS,
        content=message.body,
        content_type=OCTETS,
        header_length=message.header_length,
        first_row=first_row,
    )


def evaluate_call(
    z_spec: npt.ArrayLike,
    images: npt.ArrayLike | ImageSource | None = None,
    pdfs: npt.ArrayLike | None = None,
    ebv: npt.ArrayLike | None = None,
    object_id: npt.ArrayLike | None = None,
    magnitudes: npt.ArrayLike | None = None,
    accept: str = JSON,
    params: Mapping[str, str] | None = None,
) -> Call:
    """Ask for scores, a report or a plot.

    Parameters
    ----------
    z_spec : (n,) array_like of float
        True redshifts; masked is unknown.
    images, ebv, object_id
        As in `Galaxies.of`; images are read whole.
    pdfs : (n, n_bins) array_like of float, optional
        Probability mass per bin, in place of the images.
    magnitudes : (n,) or (n, n_bands) array_like of float, optional
        For the report.
    accept : str
        Media type of the answer, which decides what it is.
    params : mapping of str to str, optional
        The query: which plot, with the media type of an image.

    Returns
    -------
    Call
        All galaxies in one.
    """
    z_spec = _arrays.as_numbers(z_spec, "z_spec")
    given = {"pdfs": pdfs, "magnitudes": magnitudes}
    arrays: dict[str, npt.NDArray[Any]] = {"z_spec": z_spec}
    arrays |= {name: _arrays.as_numbers(values, name) for name, values in given.items() if values is not None}
    if images is not None:
        arrays["images"] = _arrays.as_pixels(_arrays.image_source(images)[:])
    if ebv is not None:
        arrays["ebv"] = _arrays.as_ebv(ebv, z_spec.size)
    if object_id is not None:
        arrays["object_id"] = _arrays.as_names(object_id, z_spec.size)
    return Call("POST", "/evaluate", accept, npz_bytes(arrays), params=params or {})


def checked_url(base_url: str) -> str:
    """Return a base URL without its last slash.

    Raises
    ------
    InvalidUrl
        If it is not a URL, or lacks http:// or a host.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InvalidUrl(f"{base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidUrl(f"expected a URL such as http://127.0.0.1:3000, got {base_url!r}")
    return base_url.rstrip("/")


def shown_url(url: str | httpx.URL) -> str:
    """Return a URL for people to read: without a name and password, and without a query."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None))
