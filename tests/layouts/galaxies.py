"""The galaxies whose pixels every file holds, and a row of the tables: a file, and what has to come of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.running import ROOT

with np.load(ROOT / "examples" / "cutouts.npz") as example:
    ROWS = np.array([3, 5, 7, 1])  # redshifts of 0.09, 0.19, 0.06, 0.13
    IMAGES = example["images"][ROWS]  # (4, 64, 64, 5), nanomaggies
    EBV = example["ebv"][ROWS]
    Z_SPEC = example["z_spec"][ROWS]

PLANES = np.ascontiguousarray(np.moveaxis(IMAGES, -1, 1))  # (4, 5, 64, 64)
N = len(IMAGES)
BANDS = "ugriz"
SCALE = 0.396  # arcsec per pixel
RA = np.array([150.1, 150.2, 150.3, 150.4])  # degrees, ICRS
DEC = np.array([2.1, 2.2, 2.3, 2.4])
IDS = np.array([1237648720693755918 + galaxy for galaxy in range(N)])  # float64 would round them

JANSKY = 3.631e-6  # per nanomaggy
ZERO_POINT = 22.5  # of nanomaggies


def factor_of(zero_point: float) -> float:
    """Return what nanomaggies are multiplied by, so that a pixel with the value 1 has this AB magnitude."""
    return 10 ** (0.4 * (zero_point - ZERO_POINT))


@dataclass(frozen=True)
class Layout:
    """One row. `refused` and the words in `said` are regular expressions, of which case does not matter."""

    write: Callable[[Path], object]
    file: str = "mine.fits"  # its name, or that of the folder
    pattern: str = ""  # of files in the folder, which is opened instead
    refused: Sequence[str] = ()  # words of the refusal; without them the file is read right
    or_right: bool = False  # whether a file that may be refused may be read right too
    said: Mapping[str, str] = field(default_factory=dict)  # by `used`, `assumed` or `left_out`
    images: np.ndarray = field(default_factory=lambda: IMAGES)  # with NaN where pixels are masked
    columns: Mapping[str, Sequence] = field(default_factory=dict)
    absent: Sequence[str] = ()  # columns that must not be there
    n: int = N  # galaxies in the file, the first ones
