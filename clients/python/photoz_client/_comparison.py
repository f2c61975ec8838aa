"""What changes for n galaxies when B, a new model or a new version of the service, replaces A.

Notation: dz = (z_B - z_A) / (1 + z_A) of z_mean; F is the CDF of a galaxy's PDF. The two may have different grids.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.metrics import OUTLIER_CUT, GalaxyScores, galaxy_scores, outlier_fraction, residuals, sigma_mad
from photoz_client._paired_bootstrap import MetricPair, metric_pairs
from photoz_client._pdf_distances import PdfDistances, blocks, pdf_distances

# Fraction of the galaxies, of the CRPS and of the metrics that may change for the worse.
TOLERANCE = 0.02

# With fewer galaxies, chance moves sigma_mad by an eighth and more, and at most one of them is an outlier, so it would
# mean nothing if no metric were worse.
MIN_SCORED = 100

Basis = Literal["scores", "agreement"]


@dataclass(frozen=True)
class Shift:
    """How z_mean moved."""

    median: float  # of dz
    sigma_mad: float  # of dz
    largest: float  # the dz that is farthest from 0
    moved: float  # fraction of the galaxies with abs(dz) > 0.05, `photoz.metrics.OUTLIER_CUT`


@dataclass(frozen=True)
class FlagChange:
    """How many galaxies have a flag only from B (gained) and only from A (lost)."""

    gained: int
    lost: int


@dataclass(frozen=True)
class Comparison:
    """All differences between A and B."""

    n_galaxies: int
    identical: bool  # all columns are equal bit for bit, including PDFs and `ood_score`
    z_mean: Shift
    pdfs: PdfDistances
    flags: dict[str, FlagChange]  # by flag; only those that any galaxy gained or lost
    flags_changed: float  # fraction of the galaxies with different flags
    n_scored: int  # galaxies with a z_spec that is on both grids
    scores: dict[str, MetricPair]  # by metric, of these galaxies; empty without z_spec


@dataclass(frozen=True)
class Verdict:
    """Whether B may replace A, and what speaks against it."""

    word: Literal["identical", "no worse", "worse", "agree", "differ"]
    by: Basis
    reasons: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against B."""
        return self.word not in ("worse", "differ")


def compare(
    a: Estimates,
    b: Estimates,
    grid_a: RedshiftGrid,
    grid_b: RedshiftGrid | None = None,
    z_spec: npt.ArrayLike | None = None,
) -> Comparison:
    """Compare two tables of estimates.

    Parameters
    ----------
    a, b : Estimates
        Of the same n galaxies, at least one, with PDFs.
    grid_a, grid_b : RedshiftGrid
        The grids of their PDFs; the second defaults to the first.
    z_spec : (n,) array_like of float, optional
        True redshifts. Galaxies where it is NaN or not on both grids are not scored.

    Returns
    -------
    Comparison
        How B differs from A.

    Raises
    ------
    InvalidInput
        If the galaxies differ, a table has no PDFs, or no z_spec can be used.
    """
    grid_b = grid_b or grid_a
    if not len(a) or not np.array_equal(a.object_id, b.object_id):
        raise InvalidInput(f"expected estimates of the same galaxies, got {len(a)} and {len(b)}, or different names")
    if a.pdf is None or b.pdf is None:
        raise InvalidPdfs("expected estimates with PDFs: use predict(images, pdf=True)")
    scored = None if z_spec is None else _scored(a.pdf, b.pdf, grid_a, grid_b, z_spec)
    return Comparison(
        n_galaxies=len(a),
        identical=grid_a == grid_b and _same(a, b),
        z_mean=shift(a.z_mean, b.z_mean),
        pdfs=pdf_distances(a.pdf, b.pdf, grid_a, grid_b),
        flags=flag_changes(a.flags, b.flags),
        flags_changed=float(np.mean(a.flags != b.flags)),
        n_scored=0 if scored is None else len(scored[0]),
        scores={} if scored is None else metric_pairs(*scored),
    )


def _same(a: Estimates, b: Estimates) -> bool:
    pairs = zip(a.columns(), b.columns(), strict=True)
    return all(np.array_equal(x, y, equal_nan=name != "object_id") for (name, x), (_, y) in pairs)


def judge(comparison: Comparison, tolerance: float = TOLERANCE, by: Basis | None = None) -> Verdict:
    """Decide whether B may replace A.

    Parameters
    ----------
    comparison : Comparison
        What changes.
    tolerance : float
        By scores: how much worse a metric may be, as a fraction of `MetricPair.unit`. By agreement: the fraction of
        galaxies whose z_mean may move by more than 0.05 (1 + z) or whose flags may change; the limit of `crps_loss`.
    by : {"scores", "agreement"}, optional
        By default scores if there are any. Agreement is for a new version of the service with the same model, where
        different answers are a fault even if they are better.

    Returns
    -------
    Verdict
        With a reason for each metric that is worse, or each change that is too large.

    Raises
    ------
    InvalidInput
        If there are no scores to judge by, or scores of too few galaxies.
    """
    by = by or ("scores" if comparison.scores else "agreement")
    if comparison.identical:
        return Verdict("identical", by)
    if by == "scores":
        reasons = tuple(_worse(comparison, tolerance))
        return Verdict("worse" if reasons else "no worse", by, reasons)
    reasons = tuple(_different(comparison, tolerance))
    return Verdict("differ" if reasons else "agree", by, reasons)


def _worse(comparison: Comparison, tolerance: float) -> Iterator[str]:
    if not comparison.scores:
        raise InvalidInput("expected true redshifts, z_spec, to judge by scores, got none")
    if comparison.n_scored < MIN_SCORED:
        raise InvalidInput(
            f"expected {MIN_SCORED} or more galaxies with true redshifts to judge by scores, "
            f"got {comparison.n_scored}; judge by agreement, or use more galaxies"
        )
    for name, pair in comparison.scores.items():
        if pair.is_worse(tolerance):
            yield f"{name} by {pair.worsening.value:.5f} ± {pair.worsening.error:.5f}"


def _different(comparison: Comparison, tolerance: float) -> Iterator[str]:
    changes = {
        f"{{}} of z_mean moved by more than {OUTLIER_CUT:g} (1 + z)": comparison.z_mean.moved,
        "the PDFs differ by {} of the CRPS": comparison.pdfs.crps_loss,
        "{} of the galaxies have other flags": comparison.flags_changed,
    }
    for text, part in changes.items():
        if part > tolerance:
            yield text.format(f"{100 * part:.1f} %")


def shift(z_a: FloatArray, z_b: FloatArray) -> Shift:
    """Summarise how redshifts moved from z_a to z_b, both (n,)."""
    dz = residuals(z_b, z_a)
    largest = float(dz[np.argmax(np.abs(dz))])
    return Shift(float(np.median(dz)), sigma_mad(dz), largest, outlier_fraction(dz))


def flag_changes(a: IntArray, b: IntArray) -> dict[str, FlagChange]:
    """Count the galaxies that gained or lost each flag from a to b, both (n,) masks of `Flag`; omit unchanged flags."""
    gained, lost = b & ~a, a & ~b
    counts = {str(flag.name): FlagChange(_count(gained, flag), _count(lost, flag)) for flag in Flag}
    return {name: change for name, change in counts.items() if change.gained or change.lost}


def _count(flags: IntArray, flag: Flag) -> int:
    return int(np.count_nonzero(flags & int(flag)))


def _scored(
    pdfs_a: FloatArray, pdfs_b: FloatArray, grid_a: RedshiftGrid, grid_b: RedshiftGrid, z_spec: npt.ArrayLike
) -> tuple[GalaxyScores, GalaxyScores]:
    z_spec = np.asarray(z_spec, dtype=np.float64)
    if z_spec.shape != (len(pdfs_a),):
        raise InvalidRedshifts(f"expected {len(pdfs_a)} true redshifts, one for each galaxy, got shape {z_spec.shape}")
    rows = np.flatnonzero(grid_a.contains(z_spec) & grid_b.contains(z_spec))
    if not len(rows):
        z_max = min(grid_a.z_max, grid_b.z_max)
        raise InvalidRedshifts(f"none of the {len(z_spec)} z_spec is on both grids: expected 0 <= z <= {z_max:g}")
    return _scores(pdfs_a, z_spec, grid_a, rows), _scores(pdfs_b, z_spec, grid_b, rows)


def _scores(pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, rows: IntArray) -> GalaxyScores:
    chosen = [rows[block] for block in blocks(len(rows))]
    parts = [galaxy_scores(pdf.as_pdfs(pdfs[block], grid), z_spec[block], grid) for block in chosen]
    return GalaxyScores(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})
