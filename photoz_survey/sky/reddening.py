"""E(B-V) on the scale of Schlegel, Finkbeiner and Davis 1998, from catalogued extinction or from their maps."""

from pathlib import Path
from typing import Any

import numpy as np
from sfdmap2.sfdmap import SFDMap

from photoz.errors import InvalidInput
from photoz.grid import FloatArray
from photoz_survey.sky.targets import Targets

# A/E(B-V) in g and r of the catalogue's extinction: Stoughton et al. 2002 (AJ 123, 485), table 22, in later releases
# Schlafly and Finkbeiner 2011 (ApJ 737, 103), table 6.
COEFFICIENTS = ((3.793, 2.751), (3.303, 2.285))

# The published files, north and south of the Galactic equator.
MAPS = ("SFD_dust_4096_ngp.fits", "SFD_dust_4096_sgp.fits")


def from_extinction(extinction_g: Any, extinction_r: Any) -> FloatArray:
    """Return E(B-V), (n,), from extinctions in SDSS's catalogue, in mag; NaN if their ratio fits no coefficients."""
    g, r = np.asarray(extinction_g, float), np.asarray(extinction_r, float)
    ebv = np.full(len(r), np.nan)
    for in_g, in_r in COEFFICIENTS:
        fits = np.abs(g / in_g - r / in_r) <= 0.005 * r / in_r + 1e-4
        ebv[fits] = (r / in_r)[fits]
    return ebv


def from_maps(targets: Targets, folder: Path) -> FloatArray:
    """Return E(B-V), (n,), interpolated in the maps in a folder; raises `InvalidInput` if a map is missing."""
    if missing := [name for name in MAPS if not (folder / name).is_file()]:
        raise InvalidInput(f"expected the maps {' and '.join(MAPS)} in {folder}; missing: {', '.join(missing)}")
    maps = SFDMap(str(folder), *MAPS, scaling=1.0)  # the default is the scale of Schlafly and Finkbeiner 2011
    return np.asarray(maps.ebv(targets.ra, targets.dec), np.float64)
