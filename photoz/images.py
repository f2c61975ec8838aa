"""Geometry of the cutouts, and validation of pixels and reddening."""

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from functools import cache, cached_property
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from photoz.errors import InvalidEbv, InvalidImages
from photoz.grid import BoolArray, FloatArray

# A_band / E(B-V) of Schlegel, Finkbeiner and Davis 1998 for the SDSS bands (Stoughton et al. 2002, table 22). These
# are the numbers behind SDSS's EXTINCTION columns, so E(B-V) = EXTINCTION_r / 2.751 is the SFD value.
SFD_COEFFICIENTS = {"u": 5.155, "g": 3.793, "r": 2.751, "i": 2.086, "z": 1.479}

ZERO_POINT = 22.5  # magnitude of 1 nanomaggy

# The SFD map exceeds this only in the innermost Galactic plane, where no galaxy redshifts can be measured.
EBV_MAX = 10.0

# Input for an unknown E(B-V), of networks that were trained with unknown values too.
UNKNOWN_EBV = -1.0

# In standard deviations of Gaussian noise: what a pixel on the border counts for at most, and the distance of the
# quartiles from the median.
CLIP, QUARTILE = 3.0, 0.6745

BLOCK = 16  # cutouts that are converted from half precision at a time


@plain_dataclass(frozen=True)
class Border:
    """Statistics of the pixels on the border of cutouts, each (n, n_bands)."""

    noise: FloatArray  # per pixel, from the darker half (`measure_border`)
    median: FloatArray


@dataclass(frozen=True)
class ImageSpec:
    """Geometry, bands and unit of the cutouts that a model takes."""

    size: Annotated[int, Field(ge=8, le=1024)] = 64  # side of the square cutout in pixels
    bands: tuple[str, ...] = ("u", "g", "r", "i", "z")  # in the order of the last axis; a string is one-letter bands
    pixel_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.396  # arcseconds per pixel
    unit: str = "nanomaggy"  # of the pixel values
    # A_band / E(B-V) by band, for the E(B-V) of SFD; None if unknown. By default those of SDSS's bands.
    extinction_coefficients: tuple[Annotated[float, Field(ge=0, le=20)] | None, ...] = Field(
        default_factory=lambda fields: tuple(SFD_COEFFICIENTS.get(band) for band in fields["bands"])
    )

    @field_validator("bands", mode="before")
    @classmethod
    def _split_letters(cls, bands: object) -> object:
        return tuple(bands) if isinstance(bands, str) else bands

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if not bands or len(set(bands)) != len(bands):
            raise ValueError(f"expected one or more distinct bands, got {bands}")
        return bands

    @field_validator("extinction_coefficients")
    @classmethod
    def _one_each(cls, values: tuple[float | None, ...], info: ValidationInfo) -> tuple[float | None, ...]:
        if (bands := info.data.get("bands", ())) and len(values) != len(bands):
            raise ValueError(f"expected an extinction coefficient, or null, for each of {','.join(bands)}")
        return values

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one cutout: (size, size, number of bands)."""
        return (self.size, self.size, len(self.bands))

    @property
    def extinction(self) -> FloatArray:
        """A_band / E(B-V) per band, shape (n_bands,), float64; 0 if unknown."""
        return np.array([coefficient or 0.0 for coefficient in self.extinction_coefficients])


SDSS_IMAGES = ImageSpec()


def parse_bands(text: str) -> tuple[str, ...]:
    """Parse names of bands, such as "griz", "g,r,i,z" or "g r i z"; () for an empty text."""
    return tuple(text.split(",") if "," in text else text.replace(";", " ").split() if {" ", ";"} & set(text) else text)


@plain_dataclass(frozen=True)
class Batch:
    """Validated cutouts of n galaxies, their reddening and, if given, their names."""

    images: npt.NDArray[np.float32]  # (n, size, size, n_bands), C-contiguous; pixels that were not finite are 0, as sky
    masked: BoolArray  # (n,), whether any pixel was not finite
    band_missing: BoolArray  # (n,), whether any band has no finite pixel, or only zeros
    ebv: npt.NDArray[np.float32]  # (n,), E(B-V) in magnitudes, SFD scale
    ebv_assumed: BoolArray  # (n,), whether the value was unknown and is the default of the model
    object_id: npt.NDArray[np.str_ | np.int64] | None = None  # (n,)

    @classmethod
    def of(
        cls,
        images: npt.ArrayLike,
        spec: ImageSpec,
        ebv: npt.ArrayLike | None = None,
        ebv_default: float = UNKNOWN_EBV,
        object_id: npt.NDArray[np.str_ | np.int64] | None = None,
    ) -> "Batch":
        """Validate cutouts and reddening, and convert them to the form that every engine takes.

        Parameters
        ----------
        images : (n, size, size, n_bands) array_like of real numbers
            Or one cutout without the first axis. Any byte order and memory layout. NaN, infinite and masked pixels (of
            a masked array) are treated as masked.
        spec : ImageSpec
            What the model expects.
        ebv, ebv_default : array_like of float or None, float
            E(B-V) as for `as_reddening`, and the value that replaces unknown ones.
        object_id : (n,) str or int64, optional
            Names of the galaxies.

        Raises
        ------
        InvalidImages, InvalidEbv
            If the shape or type is wrong, a cutout has no finite pixel, or as `as_reddening`.
        """
        pixels, masked, band_missing = _as_pixels(images, spec)
        reddening = as_reddening(ebv, len(pixels))
        unknown = np.isnan(reddening)
        reddening = np.where(unknown, np.float32(ebv_default), reddening)
        return cls(pixels, masked, band_missing, reddening, unknown, object_id)

    @classmethod
    def concatenate(cls, batches: "Sequence[Batch]") -> "Batch":
        """Concatenate one or more batches; the names of several are dropped."""
        if len(batches) == 1:
            return batches[0]
        names = [field.name for field in fields(cls) if field.name != "object_id"]
        return cls(**{name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names})

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> "Batch":
        """Return some of the rows, without copying."""
        columns = [getattr(self, field.name) for field in fields(self)]
        some: list[Any] = [None if values is None else values[rows] for values in columns]
        return Batch(*some)

    @property
    def names(self) -> npt.NDArray[np.str_ | np.int64]:
        """Names of the galaxies, (n,) str or int64: 0, 1, ... if none were given."""
        return np.arange(len(self)) if self.object_id is None else self.object_id

    @cached_property
    def border(self) -> Border:
        """Statistics of the pixels on the border; computed once."""
        return measure_border(self.images)


def _as_pixels(images: npt.ArrayLike, spec: ImageSpec) -> tuple[npt.NDArray[np.float32], BoolArray, BoolArray]:
    """Return the fields `images`, `masked` and `band_missing` of a batch."""
    array = _numeric(images)
    if array.ndim == 3:
        array = array[np.newaxis]
    if array.ndim != 4 or array.shape[1:] != spec.shape:
        raise InvalidImages(_shape_message(array.shape, spec))
    if not len(array):
        raise InvalidImages("expected at least one cutout, got none")
    pixels = _as_float32(array)
    if _is_complete(pixels):
        nowhere: BoolArray = np.zeros(len(pixels), dtype=bool)
        return pixels, nowhere, nowhere
    finite = np.isfinite(pixels)
    masked, empty = ~finite.all(axis=(1, 2, 3)), ~finite.any(axis=(1, 2, 3))
    if empty.any():
        raise InvalidImages(f"cutout {int(np.argmax(empty))} has no finite pixel; expected some signal in each cutout")
    pixels = np.where(finite, pixels, np.float32(0.0))
    return pixels, np.asarray(masked), np.asarray(~pixels.any(axis=(1, 2)).all(axis=-1))


def _as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype == np.float16:  # by a table, which is three times as fast as numpy's conversion
        pixels = np.empty(array.shape, np.float32)
        for start in range(0, len(array), BLOCK):  # numpy makes indices of eight bytes
            block = slice(start, start + BLOCK)
            np.take(_half_values(), array[block].view(np.uint16), out=pixels[block], mode="clip")
        return pixels
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, that is, masked
        return np.ascontiguousarray(array, dtype=np.float32)


@cache
def _half_values() -> npt.NDArray[np.float32]:
    """All numbers of half precision in the order of their bits, (65536,)."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _numeric(images: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        if isinstance(images, np.ma.MaskedArray) and images.dtype.kind in "fiu":
            images = np.ma.filled(images.astype(np.float64), np.nan)
        array = np.asarray(images)
    except ValueError as error:  # ragged nested lists
        raise InvalidImages(f"images do not form a regular array: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InvalidImages(f"expected images of real numbers, got dtype {array.dtype}")
    return array


def _shape_message(shape: tuple[int, ...], spec: ImageSpec) -> str:
    size, _, n_bands = spec.shape
    message = f"expected images of shape (n, {size}, {size}, {n_bands}) with bands {','.join(spec.bands)}, got {shape}"
    if shape[-3:] == (n_bands, size, size):
        message += "; the bands come first here: move them last with numpy.moveaxis(images, -3, -1)"
    return message


def _is_complete(array: npt.NDArray[np.float32]) -> bool:
    """Return whether the sum of each band is finite and not 0, so that no pixel is masked and no band is empty.

    This is true of nearly all cutouts, and ten times faster than checking each pixel. A sum that overflows, or cancels
    to 0 by chance, gives False, which costs only time.
    """
    n, size, _, n_bands = array.shape
    ones = np.ones(size, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        columns = np.matmul(ones, array.reshape(n, size, size * n_bands))  # three times as fast as one product
        sums = np.matmul(ones, columns.reshape(n, size, n_bands))
    return bool((np.isfinite(sums) & (sums != 0)).all())


def as_reddening(ebv: npt.ArrayLike | None, n: int) -> npt.NDArray[np.float32]:
    """Validate the reddening of n cutouts, E(B-V) in magnitudes (SFD): one number for all, or one for each.

    Returns (n,) float32, NaN where it is unknown. Raises `InvalidEbv` if the length is wrong, or a value is negative,
    infinite or above 10 mag.
    """
    try:
        with np.errstate(over="ignore"):  # infinite values are refused below
            array = np.asarray(np.nan if ebv is None else ebv, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidEbv(f"expected ebv as numbers: {error}") from error
    if array.shape == (n, 1):
        array = array[:, 0]
    if array.shape not in ((), (n,)):
        raise InvalidEbv(f"expected ebv as one number, or as {n}, one for each cutout, got shape {array.shape}")
    array = np.broadcast_to(array, (n,))
    bad = ~np.isnan(array) & ~((array >= 0.0) & (array <= EBV_MAX))
    if bad.any():
        raise InvalidEbv(
            f"expected 0 <= ebv <= {EBV_MAX:g} mag, got {array[bad][0]:g} for cutout {int(np.argmax(bad))}"
        )
    return array


def signal_to_noise(images: npt.NDArray[np.float32], noise: FloatArray) -> FloatArray:
    """Signal-to-noise ratio of the light in the central box, (n, n_bands); 0 where there is no noise.

    Takes sky-subtracted cutouts, (n, size, size, n_bands), and the noise per pixel, (n, n_bands).
    """
    core = central_box(images)
    with np.errstate(over="ignore", invalid="ignore"):  # pixels near the largest float32 come from no real galaxy
        signal = np.matmul(np.ones(core.shape[1], np.float32), core).astype(np.float64)
    box_noise = noise * np.sqrt(core.shape[1])
    return np.asarray(np.divide(signal, box_noise, out=np.zeros_like(signal), where=box_noise > 0))


def central_box(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the pixels of the central box, a quarter of the side wide, as (n, m, n_bands)."""
    size = images.shape[1]
    half = max(size // 8, 1)
    box = slice(size // 2 - half, size // 2 + half)
    return images[:, box, box].reshape(len(images), -1, images.shape[-1])


def measure_border(images: npt.NDArray[np.float32]) -> Border:
    """Measure the pixels on the border of cutouts (n, size, size, n_bands).

    Light only brightens the sky, so noise is measured on the darker half of the pixels: the root mean square of their
    distances from the median, of which none counts for more than `CLIP` times the noise that the quartile implies.
    """
    border = np.concatenate([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1)
    by_band = border.transpose(0, 2, 1).copy()
    by_band.sort(axis=-1)
    n_below = by_band.shape[-1] // 2
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # as above, and equal pixels
        median = by_band[..., n_below] / 2 + by_band[..., (by_band.shape[-1] - 1) // 2] / 2
        below = median[..., np.newaxis] - by_band[..., :n_below]
        largest = CLIP / QUARTILE * below[..., n_below // 2, np.newaxis]
        noise = largest[..., 0] * np.sqrt(np.mean(np.minimum(below / largest, 1.0) ** 2, axis=-1))
    return Border(np.where(largest[..., 0] > 0, noise, np.float32(0.0)), median)
