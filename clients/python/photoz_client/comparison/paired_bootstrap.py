"""Paired bootstrap of the metrics of two models on the same galaxies.

Galaxies that are hard for one model are mostly hard for the other, so the errors of the two models are correlated.
Scoring both on the same resamples cancels the common part in the error of the difference.
"""

import numpy as np
from pydantic.dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz.grid import FloatArray
from photoz.metrics import METRICS, N_RESAMPLES, GalaxyScores, Score, sigma_mad

# The best value of a metric, if lower is not always better.
BEST = {"bias": 0.0, "coverage_68": 0.68, "coverage_95": 0.95}

# Metrics that are probabilities: a tolerance applies to their difference itself.
PROBABILITIES = ("pit_ks", "coverage_68", "coverage_95")

# A difference is significant if it exceeds this many standard errors.
N_SIGMA = 2.0


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


def metric_pairs(
    a: GalaxyScores, b: GalaxyScores, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, MetricPair]:
    """Compute the metrics of two models on the same n galaxies, as far as both have the columns.

    Values and errors are those that `photoz.metrics.summarise` gives for each model alone. Both models are scored
    on the same resamples of the galaxies. Raises `InvalidInput` if the numbers of galaxies differ, or are 0.
    """
    if not len(a) or len(a) != len(b):
        raise InvalidInput(f"expected the same galaxies, at least one, got {len(a)} and {len(b)}")
    both, rng = (a, b), np.random.default_rng(seed)
    metrics = {
        name: metric
        for name, (column, metric) in METRICS.items()
        if all(getattr(scores, column) is not None for scores in both)
    }
    drawn = {name: np.empty((n_resamples, 2)) for name in metrics}
    for i in range(n_resamples):
        rows = rng.integers(0, len(a), len(a))
        resamples = [scores.take(rows) for scores in both]
        for name, metric in metrics.items():
            drawn[name][i] = [metric(scores) for scores in resamples]
    values = {name: np.array([metric(scores) for scores in both]) for name, metric in metrics.items()}
    units = {name: 1.0 if name in PROBABILITIES else abs(float(pair[0])) for name, pair in values.items()}
    units["bias"] = sigma_mad(a.dz)  # the bias of A itself may be close to 0
    return {name: _pair(name, values[name], drawn[name], units[name]) for name in metrics}


def _pair(name: str, values: FloatArray, drawn: FloatArray, unit: float) -> MetricPair:
    """Pair the values (2,) of a metric and those of its resamples (n_resamples, 2)."""
    errors = np.std(drawn, axis=0)
    a, b = (Score(float(value), float(error)) for value, error in zip(values, errors, strict=True))
    worsening, worsenings = np.diff(_shortfall(name, values)), np.diff(_shortfall(name, drawn))
    return MetricPair(a, b, Score(float(worsening[0]), float(np.std(worsenings))), unit)


def _shortfall(name: str, values: FloatArray) -> FloatArray:
    """Distance of a metric's values from its best value, up to a constant; lower is better."""
    return np.abs(values - BEST[name]) if name in BEST else values
