"""The caller's galaxies, read part by part as requests take them."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.grid import BoolArray, IntArray
from photoz.io.cutouts import ImageSource
from photoz_client import _arrays

# One request carries at most this many cutouts and, whatever their size, this many bytes of pixels: below the limits
# of the service, and about two seconds of work for a slow model.
ROWS_PER_REQUEST = 256
BYTES_PER_REQUEST = 32 * 2**20

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Galaxies:
    """What is known of n galaxies; images that are on disk stay there.

    Parameters
    ----------
    images : ImageSource
        (n, size, size, n_bands).
    ebv : () or (n,) float32, or None
        E(B-V) in mag (SFD); NaN is unknown.
    object_id : (n,) str, or None
        Their names; their row numbers without.
    """

    images: ImageSource
    ebv: npt.NDArray[np.float32] | None = None
    object_id: npt.NDArray[np.str_] | None = None
    # Readers of files are not made for several threads at once.
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(
        cls,
        images: npt.ArrayLike | ImageSource,
        ebv: npt.ArrayLike | None = None,
        object_id: npt.ArrayLike | None = None,
    ) -> "Galaxies":
        """Check that the caller's arrays fit each other.

        Parameters
        ----------
        images : (n, size, size, n_bands) array_like, memory map or HDF5 dataset of a real number type
            Not read yet.
        ebv : float or (n,) array_like of float, optional
            E(B-V) in mag (SFD); NaN or masked is unknown.
        object_id : (n,) array_like, optional
            Names of the galaxies.

        Returns
        -------
        Galaxies
            n of them.

        Raises
        ------
        InvalidInput
            If they do not.
        """
        source = _arrays.image_source(images)
        n = source.shape[0]
        return cls(
            source,
            None if ebv is None else _arrays.as_ebv(ebv, n),
            None if object_id is None else _arrays.as_names(object_id, n),
        )

    def __len__(self) -> int:
        return self.images.shape[0]

    def names(self, numbers: IntArray) -> npt.NDArray[np.str_]:
        """Return the names of the rows that are numbered; they do not travel."""
        return numbers.astype(np.str_) if self.object_id is None else self.object_id[numbers]

    def takes_parts(self) -> bool:
        """Whether they are too many for one request."""
        return len(self) > rows_per_request(self.images.shape)

    def parts(self) -> Iterator[range]:
        """Yield the rows of each request, in order; no rows at all are one request, for the service to refuse."""
        n_rows = rows_per_request(self.images.shape)
        return (range(start, min(start + n_rows, len(self))) for start in range(0, max(len(self), 1), n_rows))

    def read(self, rows: range) -> Arrays:
        """Read some rows.

        Parameters
        ----------
        rows : range
            Which ones.

        Returns
        -------
        dict
            `images` as they travel and, where it is given, `ebv`.

        Raises
        ------
        InvalidImages
            If the pixels cannot be sent.
        """
        part = slice(rows.start, rows.stop)
        with self._reading:
            images = _arrays.as_pixels(self.images[part])
        arrays: Arrays = {"images": images}
        if self.ebv is not None:
            arrays["ebv"] = np.broadcast_to(self.ebv, len(self))[part]
        return arrays


def has_signal(arrays: Arrays) -> BoolArray:
    """Tell which cutouts have any finite pixel: one without is refused, and all that travel with it."""
    return np.asarray(np.isfinite(arrays["images"]).any(axis=(1, 2, 3)))


def rows_per_request(shape: tuple[int, ...]) -> int:
    """How many cutouts of an array of the given shape go into one request."""
    bytes_per_row = 4 * math.prod(shape[1:])
    return min(ROWS_PER_REQUEST, max(1, BYTES_PER_REQUEST // max(1, bytes_per_row)))
