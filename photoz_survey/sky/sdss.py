"""The frames of the Sloan Digital Sky Survey, and the catalogue that says which a galaxy is in."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astroquery.sdss import SDSS, conf

from photoz.errors import reason
from photoz.grid import FloatArray
from photoz_survey.sky.archive import ArchiveError, session
from photoz_survey.sky.targets import FIELD_COLUMNS, Targets

RELEASE = 17
FRAMES = f"/dr{RELEASE}/eboss/photoObj/frames"  # follows the address of the archive, and comes before a frame's path

# The largest distance of an object in the catalogue from a position.
RADIUS = 5.0 * u.arcsec

# Positions in a query.
AT_ONCE = 500

# A/E(B-V) in g and r by which the catalogue turned E(B-V) of Schlegel, Finkbeiner and Davis 1998 into extinction:
# Stoughton et al. 2002 (AJ 123, 485), table 22, or later Schlafly and Finkbeiner 2011 (ApJ 737, 103), table 6.
COEFFICIENTS = ((3.793, 2.751), (3.303, 2.285))


@dataclass(frozen=True, order=True)
class Field:
    """A field of the imaging: a frame in each of the five bands."""

    run: int
    rerun: int
    camcol: int
    number: int

    def path(self, band: str) -> str:
        """Return the path of a frame in the archive."""
        name = f"frame-{band}-{self.run:06d}-{self.camcol}-{self.number:04d}.fits.bz2"
        return f"{self.rerun}/{self.run}/{self.camcol}/{name}"

    def neighbours(self) -> Iterator["Field"]:
        """Yield the fields before and after it in its scan, which overlap it by 128 rows."""
        yield replace(self, number=self.number - 1)
        yield replace(self, number=self.number + 1)


def locate(targets: Targets, catalogue: str) -> Targets:
    """Find the fields of those whose fields are unknown, and E(B-V) where it is unknown, in the catalogue at a URL.

    A position stands for the nearest primary object within `RADIUS`; where there is none its field stays unknown.
    Raises `ArchiveError` if the catalogue does not answer.
    """
    fields, ebv = targets.fields.copy(), targets.ebv.copy()
    unknown = np.flatnonzero((fields < 0).any(axis=1))
    for first in range(0, len(unknown), AT_ONCE):
        rows = unknown[first : first + AT_ONCE]
        with conf.set_temp("skyserver_baseurl", catalogue.rstrip("/")):
            found = _query(targets.ra[rows], targets.dec[rows])
        if found is None:
            continue
        at = rows[np.array([int(str(name).removeprefix("row")) for name in found["name"]])]
        fields[at] = np.column_stack([np.asarray(found[name]) for name in FIELD_COLUMNS])
        ebv[at] = np.where(np.isnan(ebv[at]), reddening(found["extinction_g"], found["extinction_r"]), ebv[at])
    return replace(targets, fields=fields, ebv=ebv)


def _query(ra: FloatArray, dec: FloatArray) -> Table | None:
    SDSS._session = session()
    wanted = [*FIELD_COLUMNS, "extinction_g", "extinction_r"]
    names = [f"row{number}" for number in range(len(ra))]
    try:
        return SDSS.query_crossid(
            SkyCoord(ra, dec, unit="deg"),
            obj_names=names,
            radius=RADIUS,
            photoobj_fields=wanted,
            data_release=RELEASE,
            cache=False,
        )
    except Exception as error:  # of requests, or what a page that is no table makes of astropy's reader
        raise ArchiveError(f"the catalogue at {conf.skyserver_baseurl} gave no positions: {reason(error)}") from error


def reddening(extinction_g: Any, extinction_r: Any) -> FloatArray:
    """Return E(B-V) on the scale of SFD from extinctions of the catalogue, (n,); NaN where their ratio is unknown."""
    g, r = np.asarray(extinction_g, float), np.asarray(extinction_r, float)
    found = np.full(len(r), np.nan)
    for in_g, in_r in COEFFICIENTS:
        fits = np.abs(g / in_g - r / in_r) <= 0.005 * r / in_r + 1e-4
        found[fits] = (r / in_r)[fits]
    return found
