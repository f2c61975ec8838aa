"""Decide from a comparison whether the second model or service may replace the first."""

from collections.abc import Iterator
from typing import Literal

from pydantic.dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz.metrics import OUTLIER_CUT
from photoz_client.comparison.differences import Comparison

# Fraction of the galaxies, of the CRPS and of the metrics that may change for the worse.
TOLERANCE = 0.02

# With fewer galaxies "no worse" would mean nothing: chance alone moves sigma_mad by an eighth or more, and at most one
# galaxy is an outlier.
MIN_SCORED = 100

Basis = Literal["scores", "agreement"]


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
