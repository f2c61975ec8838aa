"""Galaxies in the catalogue of the Sloan Digital Sky Survey: their fields, extinction and PSF."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray, IntArray
from photoz.io.columns import NamedTable
from photoz.io.cutouts import Column
from photoz_survey.sky.catalogue import Catalogue
from photoz_survey.sky.targets import Targets, as_targets

FIELD_COLUMNS = ("run", "rerun", "camcol", "field")
EXTINCTION = ("extinction_g", "extinction_r")
FWHM = tuple(f"psffwhm_{band}" for band in "ugriz")  # of the PSF, arcsec
MAGNITUDES = tuple(f"modelMag_{band}" for band in "ugriz")

# Columns (n, 5) that combine one column of the catalogue for each band.
BY_BAND = {"fwhm": FWHM, "magnitudes": MAGNITUDES}

# A/E(B-V) in g and r of the catalogue's extinction: Stoughton et al. 2002 (AJ 123, 485), table 22, in later releases
# Schlafly and Finkbeiner 2011 (ApJ 737, 103), table 6.
EXTINCTION_COEFFICIENTS = ((3.793, 2.751), (3.303, 2.285))

# Values of the column `type`: in answers about positions, and in PhotoObj.
STARS = ("STAR", "6", "6.0")

# Positions in one query.
AT_ONCE = 500

# Stands for `MAIN_SAMPLE_SQL` in place of a query.
MAIN_SAMPLE = "main-sample"

# The Main Galaxy Sample as Pasquet et al. 2019 (A&A 621, A26) selected it.
_COLUMNS = ", ".join(f"p.{name}" for name in (*FIELD_COLUMNS, *EXTINCTION, *FWHM, *MAGNITUDES))
MAIN_SAMPLE_SQL = f"""
SELECT p.objID AS object_id, p.ra, p.dec, s.z AS z_spec, p.petroMag_r - p.extinction_r AS dered_petro_r, {_COLUMNS}
FROM SpecObj AS s JOIN PhotoObj AS p ON s.bestObjID = p.objID
WHERE s.class = 'GALAXY' AND s.zWarning = 0 AND s.z > 0 AND s.z <= 0.4 AND (s.legacy_target1 & 64) != 0
  AND p.petroMag_r - p.extinction_r <= 17.8
"""


def query(sql: str, catalogue: Catalogue) -> Targets:
    """Return the galaxies of a query in SQL, or of `MAIN_SAMPLE`.

    The columns of the answer are named as those of a list.

    Raises `InvalidDataset` if the answer has no positions, and as `Catalogue.select`.
    """
    columns = catalogue.select(MAIN_SAMPLE_SQL if sql == MAIN_SAMPLE else sql)
    if not columns:
        raise InvalidDataset("the query found no galaxies")
    return as_targets(Path("the answer of the catalogue"), columns)


def locate(targets: Targets, catalogue: Catalogue) -> Targets:
    """Find the fields of galaxies, and unknown E(B-V), in their own columns and in the catalogue.

    A position stands for the nearest primary object; the field of a position without one stays unknown (-1). Raises as
    `Catalogue.select`.
    """
    own = {name: values for name, values in targets.others.items() if name not in FIELD_COLUMNS}
    targets = _with_columns(replace(targets, others=own), np.arange(len(targets)), targets.others)
    unknown = np.flatnonzero((fields(targets) < 0).any(axis=1) | np.isnan(targets.ebv))
    blocks = [unknown[first : first + AT_ONCE] for first in range(0, len(unknown), AT_ONCE)]
    parts = []
    for rows in blocks:
        if near := catalogue.near(targets.ra[rows], targets.dec[rows], (*FIELD_COLUMNS, *EXTINCTION, *FWHM)):
            parts.append({**near, "row": rows[near["row"]]})
    if not parts:
        return targets
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    types = np.full(len(targets), "", columns["type"].astype(str).dtype)
    types[columns["row"]] = columns["type"]
    targets = replace(targets, others={"type": types, **targets.others})
    return _with_columns(targets, columns["row"], columns)


def count_stars(targets: Targets) -> int:
    """Return how many galaxies are stars in the catalogue, or in a column `type` as in the catalogue."""
    return int(np.isin(targets.others.get("type", np.empty(0)).astype(str), STARS).sum())


def fields(targets: Targets) -> IntArray:
    """Return `FIELD_COLUMNS` of galaxies, (n, 4); -1 if unknown."""
    unknown = np.full(len(targets), -1)
    return np.column_stack([targets.others.get(name, unknown) for name in FIELD_COLUMNS]).astype(np.int64)


def _with_columns(targets: Targets, rows: IntArray, columns: Mapping[str, Column]) -> Targets:
    """Fill in unknown values of the galaxies at rows (m,) from columns of the catalogue, (m,) each."""
    known, others = fields(targets), dict(targets.others)
    if set(FIELD_COLUMNS) <= set(columns):
        new = np.nan_to_num(_numbers(columns, FIELD_COLUMNS), nan=-1)
        known[rows] = np.where((known[rows] < 0).any(axis=1, keepdims=True), new, known[rows])
    others |= zip(FIELD_COLUMNS, known.T, strict=True)
    for name, names in BY_BAND.items():
        values = np.array(others.get(name, np.full((len(targets), len(names)), np.nan)))
        if set(names) <= set(columns) and values.ndim == 2:  # else it is a column of the list with this name
            values[rows] = _numbers(columns, names)
            others = {other: column for other, column in others.items() if other not in names} | {name: values}
    targets = replace(targets, others=others)
    if set(EXTINCTION) <= set(columns):
        ebv = np.full(len(targets), np.nan)
        ebv[rows] = from_extinction(*_numbers(columns, EXTINCTION).T)
        targets = targets.with_ebv(ebv)
    return targets


def from_extinction(extinction_g: Any, extinction_r: Any) -> FloatArray:
    """Return E(B-V) on the scale of SFD, (n,), from extinctions in mag; NaN if their ratio fits no coefficients."""
    g, r = np.asarray(extinction_g, float), np.asarray(extinction_r, float)
    ebv = np.full(len(r), np.nan)
    for in_g, in_r in EXTINCTION_COEFFICIENTS:
        fits = np.abs(g / in_g - r / in_r) <= 0.005 * r / in_r + 1e-4
        ebv[fits] = (r / in_r)[fits]
    return ebv


def _numbers(columns: Mapping[str, Column], names: Sequence[str]) -> FloatArray:
    table = NamedTable(Path("the list"), columns, {name: name for name in names})
    return np.column_stack([table.numbers(name) for name in names])
