"""The caller's arrays: checked against each other, and read part by part as requests need them.

The service checks everything else about them.
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.errors import InvalidImages, InvalidInput
from photoz.estimates import Names, as_names
from photoz.grid import BoolArray, IntArray
from photoz.images import as_reddening
from photoz.io.cutouts import ImageSource
from photoz.protocol.contract import MAX_OBJECT_ID

# The most cutouts, and the most bytes of pixels, in one request. Both are below the limits of the service, and a slow
# model needs about two seconds for them.
ROWS_PER_REQUEST = 256
BYTES_PER_REQUEST = 32 * 2**20

WireDtype = Literal["float32", "float16"]

# Pixels with a lower mean lose digits in half precision, whose smallest normal number is 6.1e-5.
LARGEST_HALF, FAINTEST_HALF = float(np.finfo(np.float16).max), 1e-3

Arrays = dict[str, NDArray[Any]]
Images = ArrayLike | ImageSource


@dataclass(frozen=True)
class PredictInputs:
    """The inputs for n galaxies; images that are on disk stay there until they are read."""

    images: ImageSource  # (n, size, size, n_bands)
    ebv: NDArray[np.float32] | None = None  # E(B-V) in mag (SFD), () or (n,); NaN is unknown
    object_id: Names | None = None  # (n,); None: the row numbers
    # Files can be read by one thread at a time only.
    _read_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, images: Images, ebv: ArrayLike | None = None, object_id: ArrayLike | None = None) -> Self:
        """Check the arguments of `PhotozClient.predict`; raises `InvalidInput` if their lengths differ."""
        source = as_image_source(images)
        n = source.shape[0]
        names = None if object_id is None else as_object_id(object_id, n)
        return cls(source, None if ebv is None else as_ebv(ebv, n), names)

    def __len__(self) -> int:
        return self.images.shape[0]

    def names(self, rows: IntArray) -> Names:
        """Return the names (m,) of the given rows (m,); names are not sent to the service."""
        return rows.astype(np.int64) if self.object_id is None else self.object_id[rows]

    def needs_several_requests(self) -> bool:
        """Return whether the cutouts do not fit into one request."""
        return len(self) > rows_per_request(self.images.shape)

    def parts(self) -> Iterator[range]:
        """Yield the rows of each request, in order; for no rows, one empty request, which the service refuses."""
        n_rows = rows_per_request(self.images.shape)
        return (range(start, min(start + n_rows, len(self))) for start in range(0, max(len(self), 1), n_rows))

    def read(self, rows: range) -> Arrays:
        """Read m rows: `images` (m, size, size, n_bands), as they are sent, and `ebv` (m,), if it is known."""
        part = slice(rows.start, rows.stop)
        with self._read_lock:
            images = as_pixels(self.images[part])
        arrays: Arrays = {"images": images}
        if self.ebv is not None:
            arrays["ebv"] = np.broadcast_to(self.ebv, len(self))[part]
        return arrays


@dataclass(frozen=True)
class EvaluateInputs:
    """The arguments of `PhotozClient.evaluate`, unchecked."""

    z_spec: ArrayLike
    images: Images | None = None
    pdfs: ArrayLike | None = None
    ebv: ArrayLike | None = None
    object_id: ArrayLike | None = None
    magnitudes: ArrayLike | None = None

    def arrays(self) -> Arrays:
        """Return the arguments as arrays ready to be sent; raises `InvalidInput` if one cannot be used."""
        z_spec = as_numbers(self.z_spec, "z_spec")
        optional = {"pdfs": self.pdfs, "magnitudes": self.magnitudes}
        arrays: Arrays = {"z_spec": z_spec}
        arrays |= {name: as_numbers(values, name) for name, values in optional.items() if values is not None}
        if self.images is not None:
            arrays["images"] = as_pixels(as_image_source(self.images)[:])
        if self.ebv is not None:
            arrays["ebv"] = as_ebv(self.ebv, z_spec.size)
        if self.object_id is not None:
            arrays["object_id"] = as_object_id(self.object_id, z_spec.size)
        return arrays


def counted_from(first_row: int, message: str) -> str:
    """Add to a message about cutouts of a part which of the caller's rows comes first in it."""
    return f"{message} (counted from cutout {first_row} on)" if first_row else message


def has_finite_pixel(arrays: Arrays) -> BoolArray:
    """Return whether any pixel of each cutout is finite, (n,); the service refuses requests with other cutouts."""
    return np.asarray(np.isfinite(arrays["images"]).any(axis=(1, 2, 3)))


def rows_per_request(shape: tuple[int, ...]) -> int:
    """Return how many cutouts of an array of the given shape go into one request."""
    bytes_per_row = 4 * math.prod(shape[1:])
    return min(ROWS_PER_REQUEST, max(1, BYTES_PER_REQUEST // max(1, bytes_per_row)))


def as_image_source(images: Images) -> ImageSource:
    """Return images (n, size, size, n_bands) without reading them from disk; one cutout may lack the first axis.

    Raises `InvalidImages` for another number of axes.
    """
    try:
        source: Any = images if hasattr(images, "shape") else np.asarray(images)
    except ValueError as error:  # ragged nested lists
        raise InvalidImages(f"images do not form a regular array: {error}") from error
    if len(source.shape) == 3:
        source = source[:][np.newaxis]
    if len(source.shape) != 4:
        raise InvalidImages(f"expected images of shape (n, size, size, n_bands), got {tuple(source.shape)}")
    return cast(ImageSource, source)


def as_pixels(images: ArrayLike) -> NDArray[Any]:
    """Return pixels, of any shape, as they are sent: masked pixels as NaN, types wider than float32 as float32.

    Raises `InvalidImages` if they are not real numbers.
    """
    array = np.asarray(_fill_masked(images))
    if array.dtype.kind not in "fiu":
        raise InvalidImages(f"expected images of real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, that is, masked
        return array.astype(np.float32) if array.dtype.itemsize > 4 else array


def as_float16(pixels: NDArray[Any]) -> NDArray[np.float16]:
    """Convert pixels (n, size, size, n_bands) to half precision, which changes each by 0.05 % at most.

    Raises `InvalidImages` if they are too bright or too faint.
    """
    with np.errstate(over="ignore"):  # refused below
        half = pixels.astype(np.float16)
    if (lost := np.isinf(half) & np.isfinite(pixels)).any():
        raise InvalidImages(
            f"{pixels[lost][0]:g} is beyond float16, whose largest number is {LARGEST_HALF:,.0f}: "
            "use wire_dtype='float32'"
        )
    if 0.0 < (typical := float(np.nanmean(np.abs(half), dtype=np.float64))) < FAINTEST_HALF:
        raise InvalidImages(
            f"pixels of {typical:.2g} on average are too faint for float16, expected {FAINTEST_HALF:g} at least: "
            "use wire_dtype='float32'"
        )
    return half


def as_ebv(ebv: ArrayLike, n: int) -> NDArray[np.float32]:
    """Return E(B-V) in mag as one value, shape (), or one per galaxy, shape (n,); NaN where it is unknown.

    Raises `InvalidEbv` if it cannot be used. Only the client can check the length, since the service sees only parts.
    """
    if np.isscalar(ebv) or getattr(ebv, "shape", None) == ():
        return as_reddening(_fill_masked(ebv), 1).reshape(())  # n may be a hundred million
    return as_reddening(_fill_masked(ebv), n)


def as_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return numbers of any shape in full precision, NaN where masked; raises `InvalidInput` for other values."""
    try:
        return np.asarray(_fill_masked(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"expected {name} as numbers: {error}") from error


def as_object_id(object_id: ArrayLike, n: int) -> Names:
    """Return the names of n galaxies, shape (n,), integers as int64 and all others as text.

    Raises `InvalidInput` if their number is wrong, or a name is too long or consists of bytes that are not ASCII.
    """
    try:
        names = as_names(np.asarray(object_id))
    except ValueError as error:
        raise InvalidInput(f"expected object_id as text or numbers: {error}") from error
    if names.shape != (n,):
        raise InvalidInput(f"expected {n} object_id, one for each galaxy, got shape {names.shape}")
    longest = max(map(len, names.astype(np.str_).tolist()), default=0)
    if longest > MAX_OBJECT_ID:
        raise InvalidInput(f"expected object_id of at most {MAX_OBJECT_ID} characters, got one of {longest:,}")
    return names


def _fill_masked(values: ArrayLike) -> ArrayLike:
    """Replace the masked entries of a masked array, such as a column of an astropy table, by NaN."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    return np.ma.filled(values if values.dtype.kind == "f" else values.astype(np.float64), np.nan)
