"""What the caller's arrays become before they travel; the service checks all else."""

from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidImages, InvalidInput
from photoz.images import as_ebv_batch
from photoz.io.cutouts import ImageSource
from photoz.protocol.contract import MAX_OBJECT_ID


def image_source(images: npt.ArrayLike | ImageSource) -> ImageSource:
    """Return images as something that slices into batches; what is on disk stays there.

    Parameters
    ----------
    images : array_like or ImageSource
        (n, size, size, n_bands), or one cutout without the first axis.

    Returns
    -------
    ImageSource
        Of four axes.

    Raises
    ------
    InvalidImages
        If there are fewer or more.
    """
    source: Any = images if hasattr(images, "shape") else _array(images)
    if len(source.shape) == 3:
        source = source[:][np.newaxis]
    if len(source.shape) != 4:
        raise InvalidImages(f"expected images of shape (n, size, size, n_bands), got {tuple(source.shape)}")
    checked: ImageSource = source
    return checked


def as_pixels(images: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return pixels as they travel: masked ones as NaN, and none wider than the float32 that the model computes in.

    Parameters
    ----------
    images : array_like of a real number type
        Any shape.

    Returns
    -------
    ndarray
        Same shape.

    Raises
    ------
    InvalidImages
        If they are not real numbers.
    """
    array = _array(_unmasked(images))
    if array.dtype.kind not in "fiu":
        raise InvalidImages(f"expected images of real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, that is, masked
        return array.astype(np.float32) if array.dtype.itemsize > 4 else array


def as_ebv(ebv: npt.ArrayLike, n: int) -> npt.NDArray[np.float32]:
    """Return E(B-V) as one value, shape (), or one for each galaxy, shape (n,); NaN where it is not known.

    Raises
    ------
    InvalidEbv
        As `photoz.images.as_ebv_batch` does: of another length, its parts could fit the parts of the images by chance.
    """
    if np.isscalar(ebv) or getattr(ebv, "shape", None) == ():
        return as_ebv_batch(_unmasked(ebv), 1, assumed=np.nan).ebv.reshape(())  # not one for each of a hundred million
    return as_ebv_batch(_unmasked(ebv), n, assumed=np.nan).ebv


def as_numbers(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return numbers with every bit that they have; masked ones as NaN.

    Raises
    ------
    InvalidInput
        If they are not numbers.
    """
    try:
        return np.asarray(_unmasked(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"expected {name} as numbers: {error}") from error


def as_names(object_id: npt.ArrayLike, n: int) -> npt.NDArray[np.str_]:
    """Return the names of n galaxies as text.

    Raises
    ------
    InvalidInput
        If there are more or fewer, bytes that are not ASCII, or one that is too long.
    """
    try:
        names = np.asarray(object_id).astype(np.str_)
    except ValueError as error:
        raise InvalidInput(f"expected object_id as text or numbers: {error}") from error
    if names.shape != (n,):
        raise InvalidInput(f"expected {n} object_id, one for each galaxy, got shape {names.shape}")
    longest = int(np.char.str_len(names).max(initial=0))
    if longest > MAX_OBJECT_ID:
        raise InvalidInput(f"expected object_id of at most {MAX_OBJECT_ID} characters, got one of {longest:,}")
    return names


def _array(images: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        return np.asarray(images)
    except ValueError as error:  # ragged nested lists
        raise InvalidImages(f"images do not form a regular array: {error}") from error


def _unmasked(values: npt.ArrayLike) -> npt.ArrayLike:
    """Replace the masked entries of a masked array, such as a column of an astropy table, by NaN."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    numbers = values.data if values.dtype.kind == "f" else values.data.astype(np.float64)
    return np.where(np.ma.getmaskarray(values), np.nan, numbers)
