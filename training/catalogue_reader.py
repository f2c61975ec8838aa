"""Reads a user's file of magnitudes or fluxes as a `Catalogue`, with a report on what was left out and assumed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.grid import BoolArray, FloatArray, IntArray
from photoz.images import EBV_MAX, ZERO_POINT, ImageSpec
from photoz.io.catalogue_files import read_table
from photoz.io.columns import NamedTable
from photoz.io.units import magnitudes_per, nanomaggies_per
from training.catalogue import Catalogue, ReadReport
from training.splits import as_split, split_by_object

# Columns of a catalogue that are not bands.
OTHER_COLUMNS = ("z_spec", "ebv", "object_id", "ra", "dec", "split")

ERROR = "_err"  # ending of the names of columns with the errors of bands

PLAUSIBLE_MAGNITUDES = (5.0, 40.0)

# Catalogues write 99, -99, 9999 and the like for unknown numbers.
SENTINELS = (99.0, 999.0, 9999.0)

# Nearly all galaxies have all magnitudes in this range, but hardly any have all fluxes in it.
USUAL_MAGNITUDES = (10.0, 30.0)
MOST, NEARLY_ALL = 0.5, 0.9

NAMES = {"magnitude": "magnitudes", "flux": "fluxes"}

# Functions that convert units of bands and of their errors, and the units that they take.
UNITS = {
    "magnitude": (magnitudes_per, "mag or mmag, of AB magnitudes"),
    "flux": (nanomaggies_per, "nanomaggy, Jy, uJy, nJy or erg/s/cm2/Hz"),
}

Z_SPEC_MAX = 10.0  # far above those of galaxies with broad-band spectroscopy, far below velocities and percent


def read_catalogue(
    path: Path,
    columns: Mapping[str, str],
    spec: ImageSpec,
    *,
    are_magnitudes: bool,
    dereddened: bool = False,
) -> Catalogue:
    """Read the rows of a file with a plausible brightness in all bands and no impossible E(B-V).

    Parameters
    ----------
    path : Path
        A file in a format of `photoz.io.catalogue_files`; raises `UnsupportedType` for others.
    columns : mapping of str to str
        Names in the file, where they differ, of bands, of their errors (band and `ERROR`) and of `OTHER_COLUMNS`.
        Without a column `split`, the galaxies are split at random by `object_id`.
    spec : ImageSpec
        Bands to read, with their extinction.
    are_magnitudes : bool
        Whether the file has AB magnitudes and their errors, or fluxes; without units these are in nanomaggies.
    dereddened : bool
        Whether they are corrected for reddening; the fluxes of the result are as observed.

    Raises
    ------
    InvalidDataset
        If the file cannot be read or lacks a column, its numbers do not look like magnitudes, fluxes or redshifts, a
        unit is unknown or contradicts `are_magnitudes`, a word in `split` is unknown, no row can be used, or the
        extinction of a band is needed but unknown.
    """
    bands = spec.bands
    if dereddened and None in spec.extinction_coefficients:
        unknown = bands[spec.extinction_coefficients.index(None)]
        raise InvalidDataset(f"--dereddened needs the extinction of each band, which is unknown for {unknown}")
    table = _open(path, columns, bands)
    if dereddened and "ebv" not in table:
        raise InvalidDataset(f"--dereddened needs E(B-V), but {_lacks(table, ['ebv'])}")
    values, errors, converted = _photometry(table, bands, are_magnitudes=are_magnitudes)
    plausible = _find_plausible(values, path, bands, are_magnitudes=are_magnitudes)
    rows, report = _choose_rows(table, plausible, bands, are_magnitudes=are_magnitudes, dereddened=dereddened)
    values, ebv, object_id = values[rows], table.numbers("ebv")[rows], _identifiers(table)[rows]
    errors = np.where((errors > 0) & ~_is_sentinel(errors), errors, np.nan)[rows]
    dust = 10.0 ** (-0.4 * ebv[:, np.newaxis] * spec.extinction) if dereddened else 1.0
    fluxes = (10.0 ** (0.4 * (ZERO_POINT - values)) if are_magnitudes else values) * dust
    catalogue = Catalogue(
        fluxes=fluxes,
        flux_errors=errors * (np.log(10.0) / 2.5 * fluxes if are_magnitudes else dust),
        ebv=ebv,
        z_spec=_redshifts(table)[rows],
        object_id=object_id,
        ra=table.numbers("ra")[rows],
        dec=table.numbers("dec")[rows],
        split=_split(table)[rows] if "split" in table else split_by_object(object_id),
        report=report,
    )
    quantity = ("AB magnitudes" if are_magnitudes else "fluxes in nanomaggies") + (
        ", dereddened: reddened again with E(B-V)" if dereddened else " as observed"
    )
    notes = (quantity, *converted, *table.notes(chosen=columns), *_notes(table, catalogue, bands))
    return replace(catalogue, report=replace(report, notes=notes))


def _open(path: Path, columns: Mapping[str, str], bands: tuple[str, ...]) -> NamedTable:
    """Read a file and check that it has all bands and all columns that were asked for."""
    names = (*bands, *OTHER_COLUMNS, *(band + ERROR for band in bands))
    if unknown := [name for name in columns if name not in names]:
        raise InvalidDataset(f"--columns names {', '.join(unknown)}: expected names of {', '.join(names)}")
    table = read_table(path, {name: columns.get(name, name) for name in names})
    if missing := [name for name in names if (name in bands or name in columns) and name not in table]:
        raise InvalidDataset(_lacks(table, missing))
    return table


def _lacks(table: NamedTable, missing: list[str]) -> str:
    pairs = ", ".join(f"{name}={table.names[name]}" for name in missing)
    return f"{table.path} lacks the columns {pairs}; it has {', '.join(table.columns)}"


def _photometry(
    table: NamedTable, bands: tuple[str, ...], *, are_magnitudes: bool
) -> tuple[FloatArray, FloatArray, list[str]]:
    """Return the bands and their errors, (n, n_bands) each, as AB magnitudes or nanomaggies, and what was converted.

    An error without a unit has that of its band.
    """
    errors = {band: band + ERROR for band in bands}
    factors = {
        name: _unit_factor(table, name, are_magnitudes=are_magnitudes)
        for name in (*bands, *errors.values())
        if name in table and table.unit(name)
    }
    converted = [name for name, factor in factors.items() if factor != 1.0]
    if converted and (without := [band for band in bands if band not in factors]):
        raise InvalidDataset(
            f"{table.path}: column {table.names[converted[0]]!r} has the unit {table.unit(converted[0])}, but column "
            f"{table.names[without[0]]!r} has none: expected a unit for each band"
        )
    return (
        np.stack([table.numbers(band) * factors.get(band, 1.0) for band in bands], axis=1),
        np.stack([table.numbers(errors[b]) * factors.get(errors[b], factors.get(b, 1.0)) for b in bands], axis=1),
        list(table.conversions(converted)),
    )


def _unit_factor(table: NamedTable, name: str, *, are_magnitudes: bool) -> float:
    """Return the value of a unit, in magnitudes or nanomaggies; refuse a unit of the other quantity."""
    given, other = ("magnitude", "flux") if are_magnitudes else ("flux", "magnitude")
    if UNITS[other][0](table.unit(name)) is not None:
        raise InvalidDataset(
            f"{table.path}: column {table.names[name]!r} has the unit {table.unit(name)}, but --quantity is {given}: "
            f"use --quantity {other}, or correct the unit"
        )
    return table.factor(name, *UNITS[given])


def _redshifts(table: NamedTable) -> FloatArray:
    """Return z_spec (n,), NaN where unknown; refuse a column of other numbers."""
    z_spec = table.numbers("z_spec")
    z_spec = np.where(_is_sentinel(z_spec), np.nan, z_spec)
    known = z_spec[~np.isnan(z_spec)]
    large = np.abs(known) > Z_SPEC_MAX
    if len(known) and large.mean() > MOST:
        raise InvalidDataset(
            f"{table.path}: most numbers in column {table.names['z_spec']!r} exceed {Z_SPEC_MAX:g}, such as "
            f"{known[large][0]:g}; expected redshifts. These look like velocities or percent: divide velocities in "
            "km/s by 299792.458"
        )
    return z_spec


def _is_sentinel(values: FloatArray) -> BoolArray:
    return np.isin(np.abs(values), SENTINELS)


def _find_plausible(values: FloatArray, path: Path, bands: tuple[str, ...], *, are_magnitudes: bool) -> BoolArray:
    """Find the plausible values, (n, n_bands); refuse a file that seems to have the other quantity."""
    known = np.isfinite(values) & ~_is_sentinel(values) & (are_magnitudes | (values > 0))
    magnitudes = np.where(known, values, np.nan)
    if not are_magnitudes:
        magnitudes = ZERO_POINT - 2.5 * np.log10(magnitudes)
    low, high = PLAUSIBLE_MAGNITUDES
    implausible = known & ~((magnitudes >= low) & (magnitudes <= high))
    given, other = ("magnitude", "flux") if are_magnitudes else ("flux", "magnitude")
    if implausible.any(axis=1).mean() > MOST:
        row, band = np.argwhere(implausible)[0]
        raise InvalidDataset(
            f"{path}: most rows have a {given} outside {low:g} to {high:g} mag, such as {values[row, band]:g} in "
            f"{bands[band]}; expected AB magnitudes, or fluxes in nanomaggies. If these look like {NAMES[other]}, use "
            f"--quantity {other}"
        )
    low, high = USUAL_MAGNITUDES
    if not are_magnitudes and ((values > low) & (values < high)).all(axis=1).mean() > NEARLY_ALL:
        raise InvalidDataset(
            f"{path}: nearly all fluxes are between {low:g} and {high:g}, such as {values[0, 0]:g} in {bands[0]}; "
            "expected fluxes in nanomaggies. These look like magnitudes: use --quantity magnitude"
        )
    return known & ~implausible


def _choose_rows(
    table: NamedTable, plausible: BoolArray, bands: tuple[str, ...], *, are_magnitudes: bool, dereddened: bool
) -> tuple[IntArray, ReadReport]:
    """Return the usable rows, (m,), and a report that counts each other row under the first test that it fails."""
    low, high = PLAUSIBLE_MAGNITUDES
    quantity = f"magnitude of {low:g} to {high:g}" if are_magnitudes else f"positive flux of {low:g} to {high:g} mag"
    tests = {f"without a {quantity} in {band}": plausible[:, number] for number, band in enumerate(bands)}
    ebv, z_spec = table.numbers("ebv"), _redshifts(table)
    tests[f"with an E(B-V) below 0 or above {EBV_MAX:g}"] = np.isnan(ebv) | ((ebv >= 0) & (ebv <= EBV_MAX))
    if dereddened:
        tests["without an E(B-V)"] = ~np.isnan(ebv)
    if "split" in table:
        tests[f"without a word in {table.names['split']}"] = _split(table) != ""
    impossible = {"with a z_spec below 0": z_spec < 0, f"with a z_spec above {Z_SPEC_MAX:g}": z_spec > Z_SPEC_MAX}
    for failure, rows in impossible.items():
        example = f", such as {z_spec[rows][0]:g} of {_identifiers(table)[rows][0]}" if rows.any() else ""
        tests[failure + example] = ~rows
    usable, left_out = np.ones(len(table), dtype=bool), {}
    for failure, passed in tests.items():
        left_out[failure] = int((usable & ~passed).sum())
        usable &= passed
    report = ReadReport(table.path.name, len(table), left_out)
    if not usable.any():
        raise InvalidDataset(f"no row can be used: {'; '.join(map(str.strip, str(report).splitlines()))}")
    return np.flatnonzero(usable), report


def _identifiers(table: NamedTable) -> npt.NDArray[np.str_]:
    """Return the object_id of each row (n,); without one, the number of the row."""
    numbers = np.arange(len(table)).astype(str)
    if "object_id" not in table:
        return numbers
    names = table.text("object_id")
    if len(names) > 1 and names[0] and (names == names[0]).all():
        raise InvalidDataset(
            f"{table.path}: all {len(names):,} rows have the object_id {str(names[0])!r}; expected one each"
        )
    return np.where(names == "", np.char.add("row-", numbers), names)


def _split(table: NamedTable) -> npt.NDArray[np.str_]:
    """Return the split of each row (n,) in the file, "" for an empty field."""
    return as_split(table.text("split"), f"{table.path}: column {table.names['split']!r}")


def _notes(table: NamedTable, catalogue: Catalogue, bands: tuple[str, ...]) -> Iterator[str]:
    """Describe what the file lacks, and what is assumed instead."""
    if without := [band for band, errors in zip(bands, catalogue.flux_errors.T, strict=True) if np.isnan(errors).all()]:
        yield f"photometric errors are unknown in {','.join(without)}"
    for name, title in (("ebv", "E(B-V)"), ("z_spec", "z_spec")):
        if name not in table:
            yield f"{title} is unknown: no column {table.names[name]}"
    yield f"split {'of the file' if 'split' in table else 'at random'}"
    if repeated := len(catalogue) - len(np.unique(catalogue.object_id)):
        yield f"warning: rows that repeat an object_id: {repeated:,}; those of one object are in the same split"
