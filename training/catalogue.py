"""Catalogues of broad-band fluxes and spectroscopic redshifts, from kcorrect's table or a user's file."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.grid import SDSS_GRID, BoolArray, FloatArray, IntArray
from photoz.images import SDSS_IMAGES, SFD_COEFFICIENTS
from training.splits import TEST_FRACTION, random_split

ZERO_POINT = 22.5  # magnitude of 1 nanomaggy

# Of the 9,986 usable rows of kcorrect's table; all quoted scores refer to this split.
N_TEST_KCORRECT = 1986

# Columns of a catalogue that are not bands.
OTHER_COLUMNS = ("z_spec", "ebv", "object_id", "ra", "dec")


@dataclass(frozen=True)
class Catalogue:
    """n galaxies to draw."""

    fluxes: FloatArray  # (n, n_bands) as observed (reddened), nanomaggies, all positive
    flux_errors: FloatArray  # (n, n_bands), NaN where unknown
    ebv: FloatArray  # (n,) E(B-V) in magnitudes, SFD scale
    z_spec: FloatArray  # (n,) NaN where unknown
    object_id: npt.NDArray[np.str_]
    ra: FloatArray  # (n,) degrees, NaN where unknown
    dec: FloatArray
    split: npt.NDArray[np.str_]  # (n,) "train", "validation" or "test"
    provenance: str  # origin of the galaxies, in words

    def __len__(self) -> int:
        return len(self.fluxes)

    @property
    def magnitudes(self) -> FloatArray:
        """Observed (reddened) AB magnitudes, shape (n, n_bands)."""
        return np.asarray(ZERO_POINT - 2.5 * np.log10(self.fluxes))

    @property
    def magnitude_errors(self) -> FloatArray:
        """Standard errors of the magnitudes, shape (n, n_bands); NaN where unknown."""
        return np.asarray(2.5 / np.log(10.0) * self.flux_errors / self.fluxes)

    def take(self, rows: IntArray) -> "Catalogue":
        """Return the galaxies of some rows, which may repeat."""
        taken = {name: value[rows] for name, value in vars(self).items() if name != "provenance"}
        return replace(self, **taken)

    def head(self, n: int) -> "Catalogue":
        """Return the first n galaxies."""
        return self.take(np.arange(min(n, len(self))))


def kcorrect_path() -> Path:
    """Path of the table in the package `kcorrect`: 10,000 SDSS galaxies (BSD-3, Blanton and Roweis 2007)."""
    found = importlib.util.find_spec("kcorrect")
    if found is None or found.origin is None:
        raise InvalidDataset("the sample needs the package kcorrect: pip install 'photoz[sample]'")
    return Path(found.origin).parent / "data" / "test" / "gst_tests_small.fits"


def read_kcorrect(bands: tuple[str, ...] = SDSS_IMAGES.bands) -> Catalogue:
    """Read the 9,986 galaxies of kcorrect's table with 0 < z < 0.4 and positive model fluxes in all of ugriz.

    8,000 are for training and validation and 1,986 for testing, by the permutation of seed 0. Raises `InvalidDataset`
    if kcorrect is not installed or a band is not one of ugriz.
    """
    from astropy.table import Table

    if unknown := set(bands) - set(SDSS_IMAGES.bands):
        raise InvalidDataset(f"kcorrect's table has {','.join(SDSS_IMAGES.bands)}, not {','.join(sorted(unknown))}")
    columns = [SDSS_IMAGES.bands.index(band) for band in bands]

    table = Table.read(kcorrect_path())
    z_spec = np.asarray(table["Z"], dtype=np.float64)
    fluxes = np.asarray(table["MODELFLUX"], dtype=np.float64)
    usable = (z_spec > 0) & (z_spec < SDSS_GRID.z_max) & (fluxes > 0).all(axis=1)
    ivar = np.asarray(table["MODELFLUX_IVAR"], dtype=np.float64)[usable][:, columns]
    extinction_r = np.asarray(table["EXTINCTION"], dtype=np.float64)[usable, 2]
    n = int(usable.sum())
    return Catalogue(
        fluxes=fluxes[usable][:, columns],
        flux_errors=np.where(ivar > 0, 1.0 / np.sqrt(np.where(ivar > 0, ivar, 1.0)), np.nan),
        ebv=extinction_r / SFD_COEFFICIENTS["r"],
        z_spec=z_spec[usable],
        object_id=np.char.add("kcorrect-", np.flatnonzero(usable).astype(str)),
        ra=np.asarray(table["RA"], dtype=np.float64)[usable],
        dec=np.asarray(table["DEC"], dtype=np.float64)[usable],
        split=random_split(n, N_TEST_KCORRECT),
        provenance="rendered from real photometry: SDSS model fluxes and redshifts of the table in kcorrect",
    )


def read_catalogue(
    path: Path, columns: Mapping[str, str], bands: tuple[str, ...], *, are_magnitudes: bool
) -> Catalogue:
    """Read the rows of a catalogue with positive, finite fluxes in all bands.

    Parameters
    ----------
    path : Path
        A `.fits`, `.csv` or `.parquet` file; raises `UnsupportedType` for others.
    columns : mapping of str to str
        Band, or one of z_spec, ebv, object_id, ra, dec -> name of the column in the file, where they differ.
    bands : tuple of str
        Bands to read; raises `InvalidDataset` if one is missing, or if no row is usable.
    are_magnitudes : bool
        AB magnitudes if true, else fluxes in nanomaggies; as observed, not dereddened.
    """
    table = _read_table(path)
    names = {name: columns.get(name, name) for name in (*bands, *OTHER_COLUMNS)}
    missing = [f"{band}={names[band]}" for band in bands if names[band] not in table]
    if missing:
        raise InvalidDataset(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table)}")
    values = np.stack([np.asarray(table[names[band]], dtype=np.float64) for band in bands], axis=1)
    fluxes = 10.0 ** (0.4 * (ZERO_POINT - values)) if are_magnitudes else values
    usable = (np.isfinite(fluxes) & (fluxes > 0)).all(axis=1)
    n = int(usable.sum())
    if not n:
        raise InvalidDataset(f"{path} has no row with a positive flux in each of {','.join(bands)}")

    def other(name: str, default: float) -> FloatArray:
        return _numbers(table, names[name], default, usable)

    return Catalogue(
        fluxes=fluxes[usable],
        flux_errors=np.full((n, len(bands)), np.nan),
        ebv=other("ebv", 0.0),
        z_spec=other("z_spec", np.nan),
        object_id=_identifiers(table, names["object_id"], usable),
        ra=other("ra", np.nan),
        dec=other("dec", np.nan),
        split=random_split(n, round(TEST_FRACTION * n)),
        provenance=f"rendered from real photometry: {n} galaxies of {path.name}",
    )


def _read_table(path: Path) -> Mapping[str, npt.NDArray[np.generic]]:
    match path.suffix.lower():
        case ".fits" | ".fit":
            from astropy.table import Table

            table = Table.read(path)
            return {name: np.asarray(table[name]) for name in table.colnames}
        case ".csv":
            import pandas as pd

            return {str(name): values.to_numpy() for name, values in pd.read_csv(path).items()}
        case ".parquet":
            import pandas as pd

            return {str(name): values.to_numpy() for name, values in pd.read_parquet(path).items()}
        case suffix:
            raise UnsupportedType(f"cannot read a catalogue from {suffix!r}: expected .fits, .csv or .parquet")


def _numbers(table: Mapping[str, npt.NDArray[np.generic]], name: str, default: float, usable: BoolArray) -> FloatArray:
    if name not in table:
        return np.full(int(usable.sum()), default)
    return np.asarray(table[name], dtype=np.float64)[usable]


def _identifiers(table: Mapping[str, npt.NDArray[np.generic]], name: str, usable: BoolArray) -> npt.NDArray[np.str_]:
    rows = np.flatnonzero(usable) if name not in table else np.asarray(table[name])[usable]
    return rows.astype(str)
