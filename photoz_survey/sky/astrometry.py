"""The astrometry of SDSS's frames, of which each has two: in its header, and in the table `asTrans`.

The header's is a tangential projection without distortion, fitted to that of the table; in frames that span right
ascension 0 it has been reported to be off by 95 to 176 pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import fit_wcs_from_points

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray

# Largest distance between the two, in pixels. The header's leaves out distortions, 0.33 pixels at most in six frames.
MAX_DISTANCE = 1.0

# Pixels along each axis at which they are compared, and the order of the distortions that are fitted.
POINTS, SIP_ORDER = 15, 3


def astrometry(header_wcs: Any, table: Mapping[str, Any], shape: tuple[int, int]) -> Any:
    """Return the WCS of a frame of a shape (ny, nx) by the one row of its table `asTrans`.

    Raises `InvalidDataset` if that of the header differs by more than `MAX_DISTANCE` anywhere.
    """
    ny, nx = shape
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, nx - 1, POINTS), np.linspace(0, ny - 1, POINTS)))
    positions = _positions(table, x, y)
    found = header_wcs.wcs_world2pix(positions.ra.deg, positions.dec.deg, 0)
    distance = np.hypot(found[0] - x, found[1] - y)
    if not (distance <= MAX_DISTANCE).all():
        raise InvalidDataset(
            f"its astrometric solutions, in the header and in asTrans, differ by up to {np.max(distance):.1f} pixels"
        )
    centre = _positions(table, np.array((nx - 1) / 2), np.array((ny - 1) / 2))
    return fit_wcs_from_points((x, y), positions, proj_point=centre, sip_degree=SIP_ORDER)


def _positions(table: Mapping[str, Any], x: FloatArray, y: FloatArray) -> SkyCoord:
    """Positions of pixels, whose centres have whole numbers, by a row of asTrans, without its terms for the colour.

    http://data.sdss3.org/datamodel/files/PHOTO_REDUX/RERUN/RUN/astrom/asTrans.html: the great circle coordinates of the
    run (Pier et al. 2003, AJ 125, 1559) are linear in corrected rows and columns; the first centre is at 0.5.
    """
    column = x + 0.5
    row, column = (
        along + np.polynomial.polynomial.polyval(column, [table[f"{name}{power}"] for power in range(4)])
        for along, name in ((y + 0.5, "DROW"), (column, "DCOL"))
    )
    mu = np.radians(table["A"] + table["B"] * row + table["C"] * column - table["NODE"])
    nu = np.radians(table["D"] + table["E"] * row + table["F"] * column)
    incl = np.radians(table["INCL"])
    ra = np.arctan2(np.sin(mu) * np.cos(nu) * np.cos(incl) - np.sin(nu) * np.sin(incl), np.cos(mu) * np.cos(nu))
    dec = np.arcsin(np.sin(mu) * np.cos(nu) * np.sin(incl) + np.sin(nu) * np.cos(incl))
    return SkyCoord((np.degrees(ra) + table["NODE"]) % 360.0, np.degrees(dec), unit="deg")
