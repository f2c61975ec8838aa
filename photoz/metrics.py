"""Metrics of redshifts and their PDFs, each with its bootstrap error.

Notation: dz = (z_phot - z_spec) / (1 + z_spec); F is the CDF of a galaxy's PDF; `pdfs` is (n, n_bins) float,
probability mass per bin, rows sum to 1; `z_spec` is (n,), on the grid, or `InvalidRedshifts` is raised. The definitions
are those of Pasquet et al. 2019 (A&A 621, A26, sec. 4.1) unless a function says otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.errors import InvalidInput, InvalidRedshifts
from photoz.flags import Flag
from photoz.grid import FloatArray, IntArray, RedshiftGrid

# |dz| beyond which a redshift is an outlier: the SDSS convention of Pasquet et al. 2019, sec. 4.1. A cut in units of
# sigma_mad would favour a bad model.
OUTLIER_CUT = 0.05

N_RESAMPLES, FEWER_RESAMPLES = 500, 200  # of all galaxies, and of those in a bin or with a flag

BIN_MIN, FLAGGED_MIN = 20, 10  # galaxies; fewer in a bin or with a flag get no metrics


@dataclass(frozen=True)
class Score:
    """A metric on all galaxies, and its standard deviation over bootstrap resamples of them."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error:.4f}"


def residuals(z_phot: npt.ArrayLike, z_spec: npt.ArrayLike) -> FloatArray:
    """Dz = (z_phot - z_spec) / (1 + z_spec), shape (n,)."""
    z_phot, z_spec = np.asarray(z_phot, dtype=np.float64), np.asarray(z_spec, dtype=np.float64)
    return np.asarray((z_phot - z_spec) / (1.0 + z_spec))


def bias(dz: FloatArray) -> float:
    """Mean dz."""
    return float(np.mean(dz))


def sigma_mad(dz: FloatArray) -> float:
    """1.4826 times the median absolute deviation of dz from its median."""
    return 1.4826 * float(np.median(np.abs(dz - np.median(dz))))


def outlier_fraction(dz: FloatArray) -> float:
    """Fraction of galaxies with abs(dz) > 0.05."""
    return float(np.mean(np.abs(dz) > OUTLIER_CUT))


def crps(pdfs: FloatArray, z_spec: npt.ArrayLike, grid: RedshiftGrid) -> FloatArray:
    r"""Continuous ranked probability score of each galaxy, (n,), in closed form; in units of redshift, 0 is perfect.

    .. math:: \mathrm{CRPS} = \int (F(z) - H(z - z_\mathrm{spec}))^2 \, dz

    F is linear inside a bin of width w, from a to b, so the integral of its square is w (a^2 + ab + b^2) / 3. See
    Hersbach 2000 (Weather and Forecasting 15, 559) and Gneiting and Raftery 2007 (JASA 102, 359).
    """
    z_spec = _on_grid(z_spec, len(pdfs), grid)
    below = pdf.cdf(pdfs)
    above = 1.0 - below
    before = np.arange(grid.n_bins) < grid.bin_index(z_spec)[:, None]
    whole = np.where(before, mean_square(below[:, :-1], below[:, 1:]), mean_square(above[:, :-1], above[:, 1:]))
    return np.asarray(grid.width * (whole.sum(axis=1) + _split_bin_correction(below, z_spec, grid)))


def _split_bin_correction(below: FloatArray, z_spec: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Integral over the bin that holds z_spec, minus that of (1 - F)^2 across the bin; in bin widths."""
    index = grid.bin_index(z_spec)
    rows = np.arange(len(below))
    part = (z_spec - grid.edges[index]) / grid.width
    low, high = below[rows, index], below[rows, index + 1]
    at = low + part * (high - low)
    return part * (mean_square(low, at) - mean_square(1.0 - low, 1.0 - at))


def mean_square(a: FloatArray, b: FloatArray) -> FloatArray:
    """Mean of the square of a linear function from a to b."""
    return (a * a + a * b + b * b) / 3.0


def pit(pdfs: FloatArray, z_spec: npt.ArrayLike, grid: RedshiftGrid) -> FloatArray:
    """Probability integral transform F(z_spec), shape (n,): uniform on [0, 1] when the PDFs are calibrated."""
    return pdf.cdf_at(pdfs, grid, _on_grid(z_spec, len(pdfs), grid))


def uniform_ks(values: FloatArray) -> float:
    """Kolmogorov-Smirnov distance of values in [0, 1] from the uniform distribution."""
    ordered = np.sort(values)
    n = len(ordered)
    ranks = np.arange(n + 1) / n
    return float(max(np.max(ranks[1:] - ordered), np.max(ordered - ranks[:-1])))


def cde_loss(pdfs: FloatArray, z_spec: npt.ArrayLike, grid: RedshiftGrid) -> FloatArray:
    """Conditional density estimation loss of each galaxy, int p(z)^2 dz - 2 p(z_spec); shape (n,), lower is better.

    Izbicki and Lee 2017 (Electron. J. Statist. 11, 2800); for redshifts Schmidt et al. 2020 (MNRAS 499, 1587).
    """
    index = grid.bin_index(_on_grid(z_spec, len(pdfs), grid))
    at_truth = pdfs[np.arange(len(pdfs)), index]
    return np.asarray(((pdfs**2).sum(axis=1) - 2.0 * at_truth) / grid.width)


def covered(pdfs: FloatArray, z_spec: npt.ArrayLike, grid: RedshiftGrid, mass: float) -> npt.NDArray[np.bool_]:
    """Whether the shortest interval with the given probability holds the true redshift, shape (n,)."""
    z_spec = _on_grid(z_spec, len(pdfs), grid)
    blocks = [slice(start, start + pdf.ROWS_AT_ONCE) for start in range(0, max(len(pdfs), 1), pdf.ROWS_AT_ONCE)]
    ends = [pdf.shortest_interval(pdfs[block], grid, mass) for block in blocks]
    z_lo, z_hi = np.concatenate(ends, axis=1)
    return np.asarray((z_spec >= z_lo) & (z_spec <= z_hi))


def as_redshifts(z_spec: npt.ArrayLike, n: int) -> FloatArray:
    """Return true redshifts as float64; raises `InvalidRedshifts` if they are not (n,)."""
    z_spec = np.asarray(z_spec, dtype=np.float64)
    if z_spec.shape != (n,):
        raise InvalidRedshifts(f"expected {n} true redshifts, one for each galaxy, got shape {z_spec.shape}")
    return z_spec


def _on_grid(z_spec: npt.ArrayLike, n: int, grid: RedshiftGrid) -> FloatArray:
    z_spec = as_redshifts(z_spec, n)
    grid.bin_index(z_spec)
    return z_spec


@plain_dataclass(frozen=True)
class GalaxyScores:
    """Scores of each galaxy, (n,) each, which `summarise` resamples and reduces to metrics; None without PDFs."""

    dz: FloatArray  # of the point estimate
    crps: FloatArray | None = None
    pit: FloatArray | None = None
    cde_loss: FloatArray | None = None
    in_68: npt.NDArray[np.bool_] | None = None  # whether the shortest interval holds the true redshift
    in_95: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.dz)

    def take(self, index: IntArray | npt.NDArray[np.bool_]) -> "GalaxyScores":
        """Return the chosen galaxies."""
        chosen: dict[str, Any] = {name: None if a is None else a[index] for name, a in vars(self).items()}
        return GalaxyScores(**chosen)


def galaxy_scores(pdfs: FloatArray, z_spec: npt.ArrayLike, grid: RedshiftGrid) -> GalaxyScores:
    """Score each galaxy; the point estimate is the mean of its PDF."""
    z_spec = _on_grid(z_spec, len(pdfs), grid)
    if len(pdfs) > pdf.ROWS_AT_ONCE:
        blocks = [slice(start, start + pdf.ROWS_AT_ONCE) for start in range(0, len(pdfs), pdf.ROWS_AT_ONCE)]
        parts = [vars(galaxy_scores(pdfs[block], z_spec[block], grid)) for block in blocks]
        return GalaxyScores(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return GalaxyScores(
        dz=residuals(pdf.mean(pdfs, grid), z_spec),
        crps=crps(pdfs, z_spec, grid),
        pit=pit(pdfs, z_spec, grid),
        cde_loss=cde_loss(pdfs, z_spec, grid),
        in_68=covered(pdfs, z_spec, grid, 0.68),
        in_95=covered(pdfs, z_spec, grid, 0.95),
    )


def _mean(values: FloatArray) -> float:
    return float(np.mean(values))


# By name: the column of `GalaxyScores` that a metric needs, and the function of its values, (n,).
METRICS: Mapping[str, tuple[str, Callable[[FloatArray], float]]] = {
    "bias": ("dz", bias),
    "sigma_mad": ("dz", sigma_mad),
    "outlier_fraction": ("dz", outlier_fraction),
    "crps": ("crps", _mean),
    "pit_ks": ("pit", uniform_ks),
    "cde_loss": ("cde_loss", _mean),
    "coverage_68": ("in_68", _mean),
    "coverage_95": ("in_95", _mean),
}


def summarise(galaxies: GalaxyScores, n_resamples: int = N_RESAMPLES, seed: int = 0) -> dict[str, Score]:
    """Reduce the scores of one or more galaxies to metrics, those whose column is not None, with bootstrap errors.

    The error of `pit_ks` is an upper bound: resampling repeats values, which adds steps to their distribution.
    """
    values = bootstrap(galaxies, n_resamples, seed)
    return {name: Score(value, float(np.std(resampled))) for name, (value, resampled) in values.items()}


def bootstrap(galaxies: GalaxyScores, n_resamples: int, seed: int) -> dict[str, tuple[float, FloatArray]]:
    """Compute each metric of one or more galaxies, and its values (n_resamples,) for bootstrap resamples.

    The seed and the number of galaxies determine the resamples, so that two models can be compared on the same ones.
    """
    if not len(galaxies):
        raise InvalidRedshifts("expected at least one galaxy to score, got none")
    chosen = {name: metric for name, metric in METRICS.items() if getattr(galaxies, metric[0]) is not None}
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(n_resamples):
        resample = galaxies.take(rng.integers(0, len(galaxies), len(galaxies)))
        for name, (column, metric) in chosen.items():
            resampled[name].append(metric(getattr(resample, column)))
    return {
        name: (metric(getattr(galaxies, column)), np.array(resampled[name]))
        for name, (column, metric) in chosen.items()
    }


class FlagScores(NamedTuple):
    """Metrics of the galaxies with a flag, or without any; empty for fewer than 10 galaxies."""

    flag: str  # "none", the name of a `Flag`, or "any"
    n_galaxies: int
    n_outliers: int
    scores: Mapping[str, Score]


def summarise_flags(galaxies: GalaxyScores, flags: npt.ArrayLike) -> list[FlagScores]:
    """Score n galaxies without a flag, with each flag in the order of its bit, and with any.

    `flags` is (n,) int, bit masks of `Flag`; raises `InvalidInput` if it is not.
    """
    masks = np.asarray(flags)
    n = len(galaxies)
    if masks.shape != (n,) or masks.dtype.kind not in "iu":
        raise InvalidInput(f"expected {n} whole-number flags, one for each galaxy, got {masks.dtype} of {masks.shape}")
    masks = masks.astype(np.int64)
    groups = {"none": masks == 0, **{str(flag.name): (masks & int(flag)) != 0 for flag in Flag}, "any": masks != 0}
    rows = []
    for name, inside in groups.items():
        group = galaxies.take(inside)
        scores = summarise(group, FEWER_RESAMPLES) if len(group) >= FLAGGED_MIN else {}
        rows.append(FlagScores(name, len(group), int((np.abs(group.dz) > OUTLIER_CUT).sum()), scores))
    return rows


@plain_dataclass(frozen=True)
class Bin:
    """Metrics of the galaxies in one bin of some quantity; the last bin of a series is closed."""

    low: float
    high: float
    n_galaxies: int
    scores: dict[str, Score]


def summarise_by(galaxies: GalaxyScores, values: FloatArray, edges: npt.ArrayLike) -> list[Bin]:
    """Summarise n galaxies in m bins of a quantity (n,), such as redshift, between increasing edges (m + 1,).

    Bins with fewer than `BIN_MIN` galaxies are left out.
    """
    edges = np.asarray(edges, dtype=np.float64)
    bins = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (values >= low) & ((values <= high) if high == edges[-1] else (values < high))
        if (n := int(inside.sum())) >= BIN_MIN:
            bins.append(Bin(float(low), float(high), n, summarise(galaxies.take(inside), FEWER_RESAMPLES)))
    return bins
