"""The catalogue of the Sloan Digital Sky Survey: which field a galaxy is in, and what is known about it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astroquery.sdss import SDSS, conf

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray, IntArray
from photoz.io.catalogue_files import NamedTable
from photoz.io.cutouts import Column
from photoz_survey.sky.archive import ArchiveError, explain, session
from photoz_survey.sky.reddening import from_extinction
from photoz_survey.sky.targets import Targets, as_targets

RELEASE = 17

FIELD_COLUMNS = ("run", "rerun", "camcol", "field")
EXTINCTION = ("extinction_g", "extinction_r")
FWHM = tuple(f"psffwhm_{band}" for band in "ugriz")  # of the PSF, arcsec
MAGNITUDES = tuple(f"modelMag_{band}" for band in "ugriz")

# Columns (n, 5) that are made of those of the catalogue.
OF_BANDS = {"fwhm": FWHM, "magnitudes": MAGNITUDES}

# The largest distance of an object in the catalogue from a position.
RADIUS = 5.0 * u.arcsec

# Positions in a query.
AT_ONCE = 500

# What stands for the query of `MAIN_SAMPLE_SQL`.
MAIN_SAMPLE = "main-sample"

# The Main Galaxy Sample as Pasquet et al. 2019 (A&A 621, A26) selected it.
_COLUMNS = ", ".join(f"p.{name}" for name in (*FIELD_COLUMNS, *EXTINCTION, *FWHM, *MAGNITUDES))
MAIN_SAMPLE_SQL = f"""
SELECT p.objID AS object_id, p.ra, p.dec, s.z AS z_spec, p.petroMag_r - p.extinction_r AS dered_petro_r, {_COLUMNS}
FROM SpecObj AS s JOIN PhotoObj AS p ON s.bestObjID = p.objID
WHERE s.class = 'GALAXY' AND s.zWarning = 0 AND s.z > 0 AND s.z <= 0.4 AND (s.legacy_target1 & 64) != 0
  AND p.petroMag_r - p.extinction_r <= 17.8
"""


def query(sql: str, catalogue: str) -> Targets:
    """Return the galaxies of a query in SQL, or of `MAIN_SAMPLE`, to the catalogue at a URL.

    The columns of the answer are named as those of a list.

    Raises `ArchiveError` if the catalogue does not answer, `InvalidDataset` if the answer has no positions.
    """
    sql = MAIN_SAMPLE_SQL if sql == MAIN_SAMPLE else sql
    found = _ask(catalogue, partial(SDSS.query_sql, sql, data_release=RELEASE, cache=False, timeout=600))
    if not found:
        raise InvalidDataset("the query found no galaxies")
    return as_targets(Path("the answer of the catalogue"), found)


def locate(targets: Targets, catalogue: str | None, folder: Path) -> Targets:
    """Find the fields of galaxies, and E(B-V) where it is unknown, in their own columns and in the catalogue at a URL.

    A position stands for the nearest primary object within `RADIUS`; where there is none its field stays unknown, that
    is, -1. Answers are kept in a folder; without a URL nothing else is asked. Raises `ArchiveError` if the catalogue
    does not answer.
    """
    own = {name: values for name, values in targets.others.items() if name not in FIELD_COLUMNS}
    targets = _with_columns(replace(targets, others=own), np.arange(len(targets)), targets.others)
    unknown = np.flatnonzero((fields(targets) < 0).any(axis=1) | np.isnan(targets.ebv))
    found = [
        answer
        for first in range(0, len(unknown), AT_ONCE)
        if (answer := _cross_identified(targets, unknown[first : first + AT_ONCE], catalogue, folder))
    ]
    if not found:
        return targets
    columns = {name: np.concatenate([answer[name] for answer in found]) for name in found[0]}
    return _with_columns(targets, columns["row"], columns)


def fields(targets: Targets) -> IntArray:
    """Return `FIELD_COLUMNS` of galaxies, (n, 4); -1 where they are unknown."""
    unknown = np.full(len(targets), -1)
    return np.column_stack([targets.others.get(name, unknown) for name in FIELD_COLUMNS]).astype(np.int64)


def _with_columns(targets: Targets, rows: IntArray, columns: Mapping[str, Column]) -> Targets:
    """Fill in what is unknown from columns of the catalogue, (m,) each, for galaxies (m,)."""
    found, others = fields(targets), dict(targets.others)
    if set(FIELD_COLUMNS) <= set(columns):
        new = np.nan_to_num(_numbers(columns, FIELD_COLUMNS), nan=-1)
        found[rows] = np.where((found[rows] < 0).any(axis=1, keepdims=True), new, found[rows])
    others |= zip(FIELD_COLUMNS, found.T, strict=True)
    for name, names in OF_BANDS.items():
        values = np.array(others.get(name, np.full((len(targets), len(names)), np.nan)))
        if set(names) <= set(columns) and values.ndim == 2:  # not a column of the list that has the same name
            values[rows] = _numbers(columns, names)
            others = {other: column for other, column in others.items() if other not in names} | {name: values}
    targets = replace(targets, others=others)
    if set(EXTINCTION) <= set(columns):
        ebv = np.full(len(targets), np.nan)
        ebv[rows] = from_extinction(*_numbers(columns, EXTINCTION).T)
        targets = targets.with_ebv(ebv)
    return targets


def _numbers(columns: Mapping[str, Column], names: Sequence[str]) -> FloatArray:
    table = NamedTable(Path("the list"), columns, {name: name for name in names})
    return np.column_stack([table.numbers(name) for name in names])


def _cross_identified(targets: Targets, rows: IntArray, catalogue: str | None, folder: Path) -> dict[str, Column]:
    """Return columns of the catalogue, and `row`, of those galaxies that it has, or nothing."""
    ra, dec = targets.ra[rows], targets.dec[rows]
    kept = folder / f"positions-{hashlib.sha256(ra.tobytes() + dec.tobytes()).hexdigest()[:32]}.npz"
    if not kept.exists():
        if catalogue is None:
            return {}
        answer: dict[str, Any] = _ask(catalogue, partial(_cross_identify, SkyCoord(ra, dec, unit="deg")))
        folder.mkdir(parents=True, exist_ok=True)
        scratch = kept.with_name(f".{kept.name}")
        with scratch.open("wb") as file:
            np.savez(file, **answer)
        scratch.replace(kept)
    with np.load(kept) as arrays:
        found = dict(arrays)
    return {**found, "row": rows[found["row"]]} if found else {}


def _cross_identify(positions: SkyCoord) -> Table | None:
    wanted = [*FIELD_COLUMNS, *EXTINCTION, *FWHM]
    names = [f"row{number}" for number in range(len(positions))]
    found = SDSS.query_crossid(
        positions, obj_names=names, radius=RADIUS, photoobj_fields=wanted, data_release=RELEASE, cache=False
    )
    if found is not None:
        found["row"] = [int(str(name).removeprefix("row")) for name in found["name"]]
        found.keep_columns(["row", *wanted])
    return found


def _ask(catalogue: str, question: Callable[[], Table | None]) -> dict[str, Column]:
    """Return the columns of the answer to a question; empty if nothing was found."""
    SDSS._session = session()
    try:
        with conf.set_temp("skyserver_baseurl", catalogue.rstrip("/")):
            found = question()
    except Exception as error:  # of requests, or what a page that is no table makes of astropy's reader
        raise ArchiveError(f"the catalogue at {catalogue} gave no positions: {explain(error)}") from error
    return {} if found is None else {name: np.asarray(found[name]) for name in found.colnames}
