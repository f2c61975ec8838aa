"""E(B-V) on the scale of Schlegel, Finkbeiner and Davis 1998, from a catalogue's extinction or from their maps."""

from pathlib import Path
from typing import Any

import numpy as np
from sfdmap2.sfdmap import SFDMap

from photoz.errors import InvalidInput
from photoz.grid import FloatArray
from photoz_survey.sky.targets import Targets

# A/E(B-V) in g and r by which the catalogue turned E(B-V) of Schlegel, Finkbeiner and Davis 1998 into extinction:
# Stoughton et al. 2002 (AJ 123, 485), table 22, or later Schlafly and Finkbeiner 2011 (ApJ 737, 103), table 6.
COEFFICIENTS = ((3.793, 2.751), (3.303, 2.285))

# North and south of the Galactic equator, as they are published.
MAPS = ("SFD_dust_4096_ngp.fits", "SFD_dust_4096_sgp.fits")


def from_extinction(extinction_g: Any, extinction_r: Any) -> FloatArray:
    """Return E(B-V) from extinctions of SDSS's catalogue in magnitudes, (n,); NaN where their ratio is unknown."""
    g, r = np.asarray(extinction_g, float), np.asarray(extinction_r, float)
    found = np.full(len(r), np.nan)
    for in_g, in_r in COEFFICIENTS:
        fits = np.abs(g / in_g - r / in_r) <= 0.005 * r / in_r + 1e-4
        found[fits] = (r / in_r)[fits]
    return found


def from_maps(targets: Targets, folder: Path) -> FloatArray:
    """Return E(B-V) of maps in a folder, interpolated, (n,); raises `InvalidInput` if they are not there."""
    if missing := [name for name in MAPS if not (folder / name).is_file()]:
        raise InvalidInput(f"expected the maps {' and '.join(MAPS)} in {folder}; missing: {', '.join(missing)}")
    maps = SFDMap(str(folder), *MAPS, scaling=1.0)  # by default it would be that of Schlafly and Finkbeiner 2011
    return np.asarray(maps.ebv(targets.ra, targets.dec), np.float64)
