"""What is asked of the service: pure functions from arrays to calls, for any kind of client."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy.typing as npt

from photoz.contract import JSON, NPZ
from photoz.datasets import ImageSource, npz_bytes
from photoz_client import _arrays
from photoz_client._errors import InvalidUrl

# One request carries at most this many cutouts and, whatever their size, this many bytes of pixels: below the limits
# of the service, and about two seconds of work for a slow model.
ROWS_PER_REQUEST = 256
BYTES_PER_REQUEST = 32 * 2**20

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


def predict_calls(
    images: npt.ArrayLike | ImageSource,
    ebv: npt.ArrayLike | None = None,
    object_id: npt.ArrayLike | None = None,
    pdf: bool = False,
) -> Iterator[Call]:
    """Ask for predictions, in as many calls as the number and size of the cutouts takes.

    Parameters
    ----------
    images : (n, size, size, n_bands) array_like, memory map or HDF5 dataset of a real number type
        Read part by part.
    ebv : float or (n,) array_like of float, optional
        E(B-V) in mag (SFD); NaN or masked is unknown.
    object_id : (n,) array_like, optional
        Names of the galaxies.
    pdf : bool
        Ask for the PDFs too.

    Yields
    ------
    Call
        In the order of the rows; at least one.

    Raises
    ------
    InvalidInput
        If the arrays do not fit each other or cannot be sent.
    """
    source = _arrays.image_source(images)
    n = source.shape[0]
    columns: dict[str, npt.NDArray[Any]] = {"object_id": _arrays.as_names(object_id, n)}
    if ebv is not None:
        columns["ebv"] = _arrays.as_ebv(ebv, n)
    params = {"pdf": "true"} if pdf else {}
    n_rows = rows_per_request(source.shape)
    for start in range(0, max(n, 1), n_rows):
        rows = slice(start, start + n_rows)
        part = {name: values[rows] for name, values in columns.items()}
        content = npz_bytes({"images": _arrays.as_pixels(source[rows]), **part})
        yield Call("POST", "/predict_file", NPZ, content, params, start)


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
        As in `predict_calls`.
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


def takes_parts(images: npt.ArrayLike | ImageSource) -> bool:
    """Whether images are too many for one request."""
    shape = _arrays.image_source(images).shape
    return shape[0] > rows_per_request(shape)


def rows_per_request(shape: tuple[int, ...]) -> int:
    """How many cutouts of an array of the given shape go into one request."""
    bytes_per_row = 4 * math.prod(shape[1:])
    return min(ROWS_PER_REQUEST, max(1, BYTES_PER_REQUEST // max(1, bytes_per_row)))


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
