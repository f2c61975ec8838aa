"""Compare two predictions for the same galaxies, and judge whether the second may replace the first.

Notation: A is the present model or version of the service, B the new one; dz = (z_B - z_A) / (1 + z_A) of z_mean; F is
the CDF of a galaxy's PDF. The grids of A and B may differ.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from photoz import metrics, pdf
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.metrics import N_RESAMPLES, OUTLIER_CUT, GalaxyScores, Score
from photoz_client._pdf_distances import PdfDistances, pdf_distances

# The best value of a metric, if lower is not always better.
BEST = {"bias": 0.0, "coverage_68": 0.68, "coverage_95": 0.95}

# Metrics that are probabilities: a tolerance applies to their difference itself.
PROBABILITIES = ("pit_ks", "coverage_68", "coverage_95")

# A difference is significant if it exceeds this many standard errors.
N_SIGMA = 2.0

# Fraction of the galaxies, of the CRPS and of the metrics that may change for the worse.
TOLERANCE = 0.02

# With fewer galaxies "no worse" would mean nothing: chance alone moves sigma_mad by an eighth or more, and at most one
# galaxy is an outlier.
MIN_SCORED = 100

Basis = Literal["scores", "agreement"]


@dataclass(frozen=True)
class MetricPair:
    """One metric of the first model, a, and of the second, b."""

    a: Score
    b: Score
    worsening: Score  # how much farther from the best value b is than a, and the error of that difference
    unit: float  # of the tolerance: a's metric; for the bias a's sigma_mad; for probabilities 1

    def threshold(self, tolerance: float) -> float:
        """Return the change that counts: more than `N_SIGMA` errors and more than the tolerated fraction of `unit`."""
        return max(N_SIGMA * self.worsening.error, tolerance * self.unit)

    def is_worse(self, tolerance: float) -> bool:
        """Return whether the second model is worse by more than `threshold`."""
        return self.worsening.value > self.threshold(tolerance)

    def is_better(self, tolerance: float) -> bool:
        """Return whether the second model is better by more than `threshold`."""
        return -self.worsening.value > self.threshold(tolerance)


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
    """Whether B may replace A, and the reasons against it."""

    word: Literal["identical", "no worse", "worse", "agree", "differ"]
    by: Basis
    reasons: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether B may replace A."""
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
        Estimates with PDFs for the same n galaxies, at least one.
    grid_a, grid_b : RedshiftGrid
        The grids of their PDFs; the second defaults to the first.
    z_spec : (n,) array_like of float, optional
        True redshifts. Galaxies whose z_spec is NaN or not on both grids are not scored.

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


def shift(z_a: FloatArray, z_b: FloatArray) -> Shift:
    """Summarise how redshifts moved from z_a to z_b, both (n,)."""
    dz = metrics.residuals(z_b, z_a)
    largest = float(dz[np.argmax(np.abs(dz))])
    return Shift(float(np.median(dz)), metrics.sigma_mad(dz), largest, metrics.outlier_fraction(dz))


def flag_changes(a: IntArray, b: IntArray) -> dict[str, FlagChange]:
    """Count the galaxies that gained or lost each flag from a to b, both (n,) masks of `Flag`; omit unchanged flags."""
    changes = {}
    for flag in Flag:
        gained, lost = (int(np.count_nonzero(mask & int(flag))) for mask in (b & ~a, a & ~b))
        if gained or lost:
            changes[str(flag.name)] = FlagChange(gained, lost)
    return changes


def _scored(
    pdfs_a: FloatArray, pdfs_b: FloatArray, grid_a: RedshiftGrid, grid_b: RedshiftGrid, z_spec: npt.ArrayLike
) -> tuple[GalaxyScores, GalaxyScores]:
    z_spec = metrics.as_redshifts(z_spec, len(pdfs_a))
    rows = grid_a.contains(z_spec) & grid_b.contains(z_spec)
    if not rows.any():
        z_max = min(grid_a.z_max, grid_b.z_max)
        raise InvalidRedshifts(f"none of the {len(z_spec)} z_spec is on both grids: expected 0 <= z <= {z_max:g}")
    scores_a = metrics.galaxy_scores(pdf.as_pdfs(pdfs_a[rows], grid_a), z_spec[rows], grid_a)
    return scores_a, metrics.galaxy_scores(pdf.as_pdfs(pdfs_b[rows], grid_b), z_spec[rows], grid_b)


def metric_pairs(
    a: GalaxyScores, b: GalaxyScores, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, MetricPair]:
    """Compute the metrics of two models on the same n galaxies; both scores have the same columns.

    Values and errors are those that `photoz.metrics.summarise` gives for each model alone. Both models are scored on
    the same resamples of the galaxies: galaxies that are hard for one are mostly hard for the other, and this common
    part of their errors cancels in the error of the difference. Raises `InvalidInput` if their numbers differ or
    are 0.
    """
    if not len(a) or len(a) != len(b):
        raise InvalidInput(f"expected the same galaxies, at least one, got {len(a)} and {len(b)}")
    values_a, values_b = (metrics.bootstrap(scores, n_resamples, seed) for scores in (a, b))
    pairs = {}
    for name, (value_a, resampled_a) in values_a.items():
        value_b, resampled_b = values_b[name]
        worsening = _distance(name, value_b) - _distance(name, value_a)
        error = np.std(_distance(name, resampled_b) - _distance(name, resampled_a))
        # The bias of A may be close to 0, so its unit is sigma_mad.
        unit = 1.0 if name in PROBABILITIES else metrics.sigma_mad(a.dz) if name == "bias" else abs(value_a)
        scores = (Score(value_a, float(np.std(resampled_a))), Score(value_b, float(np.std(resampled_b))))
        pairs[name] = MetricPair(*scores, Score(float(worsening), float(error)), unit)
    return pairs


def _distance(name: str, values: npt.ArrayLike) -> FloatArray:
    """Distance of a metric's values from its best value, up to a constant; lower is better."""
    return np.abs(np.subtract(values, BEST[name])) if name in BEST else np.asarray(values)


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
    for text, fraction in changes.items():
        if fraction > tolerance:
            yield text.format(f"{100 * fraction:.1f} %")
