"""The redshift grid: bin edges, bin centres and the bin of a redshift."""

from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from photoz.errors import InvalidRedshifts

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RedshiftGrid:
    """`n_bins` equal bins of redshift from 0 to `z_max` (0.001 to 1,000), the last one closed."""

    z_max: Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]
    n_bins: Annotated[int, Field(ge=2)]

    @cached_property
    def edges(self) -> FloatArray:
        """Bin edges, shape (n_bins + 1,), float64."""
        # Not `arange`, and not multiples of the width: rounding puts 85 of the 180 lower edges of the SDSS grid into
        # the bin below.
        return _read_only(np.linspace(0.0, self.z_max, self.n_bins + 1))

    @cached_property
    def centres(self) -> FloatArray:
        """Bin centres, shape (n_bins,), float64."""
        return _read_only(0.5 * (self.edges[:-1] + self.edges[1:]))

    @cached_property
    def width(self) -> float:
        """Width of one bin."""
        return self.z_max / self.n_bins

    def contains(self, z: npt.ArrayLike) -> BoolArray:
        """Return whether redshifts, of any shape, lie on the grid; False for NaN."""
        z = np.asarray(z, dtype=np.float64)
        return np.asarray((z >= 0.0) & (z <= self.z_max))

    def bin_index(self, z: npt.ArrayLike) -> IntArray:
        """Return the index of the bin that holds each redshift, 0 to n_bins - 1, for redshifts of any shape.

        A redshift on an inner edge belongs to the bin that starts there; z_max belongs to the last bin. Raises
        `InvalidRedshifts` if any is NaN or outside of the grid.
        """
        z = np.asarray(z, dtype=np.float64)
        bad = ~self.contains(z)
        if bad.any():
            raise InvalidRedshifts(
                f"{int(bad.sum())} of {z.size} redshifts are not on the grid: expected 0 <= z <= {self.z_max:g}, "
                f"got for example {z[bad].flat[0]:g}"
            )
        index = np.searchsorted(self.edges, z, side="right") - 1
        return np.asarray(np.minimum(index, self.n_bins - 1))


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array


SDSS_GRID = RedshiftGrid(z_max=0.4, n_bins=180)
