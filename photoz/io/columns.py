"""Columns of files of cutouts: their standard names, units and types."""

from collections.abc import Mapping

import numpy as np

from photoz.errors import InvalidDataset
from photoz.io.cutouts import Column, Reading
from photoz.io.units import degrees_per, magnitudes_per

# Other names of columns in published data sets, in lower case.
ALIASES = {
    "object_id": (
        "objid", "obj_id", "objectid", "targetid", "source_id", "specobjid", "photoobjid", "galaxy_id", "id", "name",
    ),
    "ebv": ("e_bv", "e(b-v)", "ebv_sfd"),
    "z_spec": ("specz_redshift", "redshift", "zspec", "specz", "z"),
    "ra": ("raj2000", "ra_j2000", "_raj2000", "alpha_j2000"),
    "dec": ("dej2000", "dec_j2000", "_dej2000", "delta_j2000", "decl"),
}  # fmt: skip


def standard_columns(
    columns: Mapping[str, Column], units: Mapping[str, str], bands: tuple[str, ...], reading: Reading
) -> dict[str, Column]:
    """Return columns by their standard names, in standard units and types, and note what was done.

    `bands` are those of the images: a column of that name may be a magnitude. Raises `InvalidDataset` if several
    columns may be the same, a unit is unknown, or names of galaxies are numbers that have lost digits.
    """
    renamed, units = dict(columns), dict(units)
    magnitudes = set(bands) if len(set(bands) & set(renamed)) > 1 else set()
    magnitudes |= {name for name, unit in units.items() if "mag" in unit.lower()} - {"ebv"}
    name_of_ids = "object_id"
    for name, aliases in ALIASES.items():
        candidates = {*aliases, name}
        others = [
            column for column in renamed
            if column.lower() in candidates and column != name and (name == "ebv" or column not in magnitudes)
        ]  # fmt: skip
        if name in renamed or not others:
            continue
        if name == "object_id":  # several names do no harm: the first in `ALIASES` is taken
            others = sorted(others, key=lambda column: (name, *aliases).index(column.lower()))[:1]
        if len(others) > 1:
            raise InvalidDataset(f"any of the columns {', '.join(others)} may be {name}: rename one of them to {name}")
        renamed[name] = renamed.pop(others[0])
        name_of_ids = others[0] if name == "object_id" else name_of_ids
        units[name] = units.pop(others[0], "")
        reading.used.append(f"the column {others[0]} is {name}")
    if "object_id" in renamed and renamed["object_id"].dtype.kind == "f":
        renamed["object_id"] = whole_names(renamed["object_id"], f"column {name_of_ids!r}")
    _convert(renamed, units, reading)
    return renamed


def whole_names(values: Column, where: str) -> Column:
    """Return names of galaxies in floating point as integers, or as text if some are unknown, "".

    Raises `InvalidDataset`, naming `where` they are, if they are not integers below that to which all are exact.
    """
    limit = 2**53 if values.dtype.itemsize == 8 else 2**24
    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    bad = known[(np.abs(known) >= limit) | (known != np.round(known))]
    if len(bad):
        raise InvalidDataset(
            f"{where} has floating-point numbers, such as {bad[0]:.17g}, which do not hold all digits of an "
            "identifier: write integers or text"
        )
    if len(known) == len(numbers):
        return numbers.astype(np.int64)
    return np.array([f"{value:.0f}" if np.isfinite(value) else "" for value in numbers], dtype=np.str_)


def _convert(columns: dict[str, Column], units: Mapping[str, str], reading: Reading) -> None:
    """Convert positions to degrees and E(B-V) to magnitudes; raises `InvalidDataset` for other units and velocities."""
    factors = {"ra": degrees_per, "dec": degrees_per, "ebv": magnitudes_per}
    for name, unit in units.items():
        if name not in columns or not unit:
            continue
        if name == "z_spec" and ("/s" in unit or "s-1" in unit):
            raise InvalidDataset(f"z_spec is in {unit}: expected redshifts, not velocities")
        if name not in factors or columns[name].dtype.kind not in "fiu":
            continue
        if (factor := factors[name](unit)) is None:
            raise InvalidDataset(f"{name} is in {unit}, which is unknown: expected deg, rad or h, or mag for ebv")
        if factor != 1.0:
            columns[name] = np.multiply(columns[name], factor)
            reading.used.append(f"{name} is converted from {unit}")
