"""The astrometry of SDSS's frames, of which each has two: in its header, and in the table `asTrans`.

The header's is a tangential projection without distortion, fitted to that of the table; in frames that span right
ascension 0 it has been reported to be off by 95 to 176 pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS, Sip

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
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2])
    return _fit(x - middle[0], y - middle[1], positions, middle, _positions(table, *middle))


def _fit(x: FloatArray, y: FloatArray, positions: SkyCoord, middle: FloatArray, centre: SkyCoord) -> Any:
    """Fit a tangential projection with distortions to positions of pixels x and y from the middle, all (n,).

    Both are linear in their coefficients: astropy's `fit_wcs_from_points` searches for them, in 100 times the time.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN-SIP", "DEC--TAN-SIP"], [centre.ra.deg, centre.dec.deg]
    on_plane = np.column_stack(wcs.wcs_world2pix(positions.ra.deg, positions.dec.deg, 1))  # degrees from the centre
    powers = [(i, order - i) for order in range(1, SIP_ORDER + 1) for i in range(order, -1, -1)]
    solution, *_ = np.linalg.lstsq(np.column_stack([x**i * y**j for i, j in powers]), on_plane, rcond=None)
    wcs.wcs.cd, wcs.wcs.crpix = solution[:2].T, middle + 1.0
    distortions = np.zeros((2, SIP_ORDER + 1, SIP_ORDER + 1))
    distortions[:, *np.transpose(powers[2:])] = np.linalg.solve(wcs.wcs.cd, solution[2:].T)
    wcs.sip = Sip(*distortions, None, None, wcs.wcs.crpix)
    return wcs


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
