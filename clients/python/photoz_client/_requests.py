"""What is asked of the service: pure functions from arrays to calls, for any kind of client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy.typing as npt

from photoz.contract import JSON, NPZ
from photoz.datasets import ImageSource, npz_bytes
from photoz_client import _arrays
from photoz_client._errors import InvalidUrl
from photoz_client._galaxies import Arrays

ANY_TYPE = "*/*"


@dataclass(frozen=True)
class Call:
    """One HTTP request, not sent yet.

    Parameters
    ----------
    method, path : str
        Such as "POST", "/predict_file".
    accept : str
        Media type of the answer.
    content : bytes
        The body; arrays as `.npz`.
    params : mapping of str to str
        The query.
    first_row : int
        Which of the caller's rows is the first in this call.
    """

    method: str
    path: str
    accept: str = JSON
    content: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    first_row: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        body = {"Content-Type": NPZ} if self.content else {}
        return {"Accept": self.accept, **body}


def model_call() -> Call:
    """Ask for the model's card."""
    return Call("GET", "/model")


def ready_call() -> Call:
    """Ask whether the service is ready."""
    return Call("GET", "/readyz", ANY_TYPE)


def predict_call(arrays: Arrays, pdf: bool = False, first_row: int = 0) -> Call:
    """Ask for predictions: the one place that knows how cutouts travel; `_responses.prediction` reads the answer.

    Parameters
    ----------
    arrays : dict
        `images` (n, size, size, n_bands), `object_id` (n,) and, where it is known, `ebv` (n,).
    pdf : bool
        Ask for the PDFs too.
    first_row : int
        Which of the caller's rows is the first of these.

    Returns
    -------
    Call
        All of them in one.
    """
    return Call("POST", "/predict_file", NPZ, npz_bytes(arrays), {"pdf": "true"} if pdf else {}, first_row)


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
    return Call("POST", "/evaluate", accept, npz_bytes(arrays), params or {})


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
