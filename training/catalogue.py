"""Catalogues of broad-band fluxes and spectroscopic redshifts, such as the one in the package kcorrect."""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset, printable
from photoz.grid import SDSS_GRID, BoolArray, FloatArray, IntArray
from photoz.images import SDSS_IMAGES, SFD_COEFFICIENTS, ZERO_POINT
from photoz.io.cutouts import TEST, TRAIN, VALIDATION
from photoz.selection import find_selected
from training.splits import random_split

SPLITS = (TRAIN, VALIDATION, TEST)

# Test galaxies among the 9,986 usable rows of kcorrect's table; all quoted scores refer to this split.
N_TEST_KCORRECT = 1986


@dataclass(frozen=True)
class ReadReport:
    """What was read from a catalogue, what was left out, and what was assumed."""

    source: str  # the catalogue, in words
    n_read: int
    left_out: Mapping[str, int] = field(default_factory=dict)  # which rows, in words -> number of them
    notes: tuple[str, ...] = ()

    @property
    def n_used(self) -> int:
        """Number of rows that were not left out."""
        return self.n_read - sum(self.left_out.values())

    def __str__(self) -> str:
        left_out = (f"left out: {n:,} {rows}" for rows, n in self.left_out.items() if n)
        first = f"{self.source}: {self.n_read:,} rows read, {self.n_used:,} used"
        return "\n  ".join((first, *left_out, *self.notes))


@dataclass(frozen=True)
class Catalogue:
    """A catalogue of n galaxies to draw."""

    fluxes: FloatArray  # (n, n_bands) as observed (reddened), nanomaggies, all positive
    flux_errors: FloatArray  # (n, n_bands), NaN where unknown
    ebv: FloatArray  # (n,) E(B-V) in magnitudes, SFD scale, NaN where unknown
    z_spec: FloatArray  # (n,) NaN where unknown
    object_id: npt.NDArray[np.str_]
    ra: FloatArray  # (n,) degrees, NaN where unknown
    dec: FloatArray
    split: npt.NDArray[np.str_]  # (n,) "train", "validation" or "test"
    report: ReadReport

    def __len__(self) -> int:
        return len(self.fluxes)

    @property
    def provenance(self) -> str:
        """Origin of the galaxies, in words."""
        return f"rendered from real photometry: {len(self):,} galaxies of {self.report.source}"

    @property
    def magnitudes(self) -> FloatArray:
        """Observed (reddened) AB magnitudes, shape (n, n_bands)."""
        return np.asarray(ZERO_POINT - 2.5 * np.log10(self.fluxes))

    @property
    def magnitude_errors(self) -> FloatArray:
        """Standard errors of the magnitudes, shape (n, n_bands); NaN where unknown."""
        return np.asarray(2.5 / np.log(10.0) * self.flux_errors / self.fluxes)

    def describe(self, bands: tuple[str, ...]) -> str:
        """Return the report and a summary of the galaxies, as lines of text."""
        medians = zip(bands, np.median(self.magnitudes, axis=0), strict=True)
        sizes = (f"{(self.split == name).sum():,} {name}" for name in SPLITS)
        lines = (
            "median magnitudes as observed: " + ", ".join(f"{band} {median:.1f}" for band, median in medians),
            f"E(B-V): {_range(self.ebv)}",
            f"z_spec: {_range(self.z_spec)}",
            *self._off_grid(),
            "split: " + ", ".join(sizes),
        )
        return "\n  ".join((str(self.report), *map(printable, lines)))

    def _off_grid(self) -> Iterator[str]:
        """Say which galaxies are not on the default grid of a training run."""
        high = self.z_spec > SDSS_GRID.z_max
        if high.any():
            example = f"such as {self.z_spec[high][0]:g} of {self.object_id[high][0]}"
            yield f"z_spec above {SDSS_GRID.z_max:g}: {high.sum():,}, {example}; train uses these only with --z-max"

    def take(self, rows: IntArray) -> "Catalogue":
        """Return the galaxies of some rows, (m,), which may repeat."""
        return replace(self, **{name: values[rows] for name, values in vars(self).items() if name != "report"})

    def keep(self, used: BoolArray, others: str) -> "Catalogue":
        """Return the galaxies where `used` (n,) is true; the report counts the others, described in words."""
        left_out = {**self.report.left_out, others: int((~used).sum())}
        return replace(self.take(np.flatnonzero(used)), report=replace(self.report, left_out=left_out))

    def head(self, n: int) -> "Catalogue":
        """Return the first n galaxies."""
        return self.keep(np.arange(len(self)) < n, f"after the first {n:,}")

    def select(self, conditions: str, bands: tuple[str, ...]) -> "Catalogue":
        """Return the galaxies that meet conditions such as "r<=17.8,ebv<0.1" on magnitudes, z_spec, ebv, ra and dec.

        Magnitudes are observed ones, by band. Raises `InvalidDataset` for other columns, or if no galaxy is left.
        """
        columns: dict[str, FloatArray] = dict(zip(bands, self.magnitudes.T, strict=True))
        columns |= {"z_spec": self.z_spec, "ebv": self.ebv, "ra": self.ra, "dec": self.dec}

        def column(name: str) -> FloatArray:
            if name not in columns:
                raise InvalidDataset(f"cannot select by {name!r}: expected one of {', '.join(columns)}")
            return columns[name]

        return self.keep(find_selected(column, len(self), conditions), f"that do not meet {conditions}")


def _range(values: FloatArray) -> str:
    """Describe numbers (n,), NaN where unknown."""
    known = values[~np.isnan(values)]
    parts = [f"{known.min():.4g} to {known.max():.4g}"] if len(known) else []
    if len(known) < len(values):
        parts.append(f"unknown for {len(values) - len(known):,}")
    return ", ".join(parts)


def kcorrect_path() -> Path:
    """Path of the table in the package `kcorrect`: 10,000 SDSS galaxies (BSD-3, Blanton and Roweis 2007)."""
    package = importlib.util.find_spec("kcorrect")
    if package is None or package.origin is None:
        raise InvalidDataset("the sample needs the package kcorrect: pip install 'photoz[sample]'")
    return Path(package.origin).parent / "data" / "test" / "gst_tests_small.fits"


def read_kcorrect(bands: tuple[str, ...] = SDSS_IMAGES.bands) -> Catalogue:
    """Read the 9,986 galaxies of kcorrect's table with 0 < z < 0.4 and positive model fluxes in all of ugriz.

    8,000 are for training and validation and 1,986 for testing, by the permutation of seed 0. Raises `InvalidDataset`
    if kcorrect is not installed or lacks a band.
    """
    from astropy.table import Table

    if unknown := set(bands) - set(SDSS_IMAGES.bands):
        raise InvalidDataset(
            f"kcorrect's table has {','.join(SDSS_IMAGES.bands)}, not {','.join(sorted(unknown))}: choose from these "
            "with --bands, or use your own --catalogue"
        )
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
        report=ReadReport(
            "the table in kcorrect, of SDSS model fluxes and redshifts",
            len(table),
            {f"without 0 < z < {SDSS_GRID.z_max:g} and positive fluxes": len(table) - n},
        ),
    )
