"""Paired bootstrap of the metrics of two models on the same galaxies.

Galaxies that are hard for one model are mostly hard for the other, so the errors of the two models are correlated.
Scoring both on the same resamples cancels the common part in the error of the difference.
"""

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz.grid import FloatArray
from photoz.metrics import N_RESAMPLES, GalaxyScores, Score, bootstrap, sigma_mad

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
    """Compute the metrics of two models on the same n galaxies; both scores have the same columns.

    Values and errors are those that `photoz.metrics.summarise` gives for each model alone. Both models are scored
    on the same resamples of the galaxies. Raises `InvalidInput` if the numbers of galaxies differ, or are 0.
    """
    if not len(a) or len(a) != len(b):
        raise InvalidInput(f"expected the same galaxies, at least one, got {len(a)} and {len(b)}")
    values_a, values_b = (bootstrap(scores, n_resamples, seed) for scores in (a, b))
    pairs = {}
    for name, (value_a, resampled_a) in values_a.items():
        value_b, resampled_b = values_b[name]
        worsening = _distance(name, value_b) - _distance(name, value_a)
        error = np.std(_distance(name, resampled_b) - _distance(name, resampled_a))
        # The bias of A may be close to 0, so its unit is sigma_mad.
        unit = 1.0 if name in PROBABILITIES else sigma_mad(a.dz) if name == "bias" else abs(value_a)
        scores = (Score(value_a, float(np.std(resampled_a))), Score(value_b, float(np.std(resampled_b))))
        pairs[name] = MetricPair(*scores, Score(float(worsening), float(error)), unit)
    return pairs


def _distance(name: str, values: npt.ArrayLike) -> FloatArray:
    """Distance of a metric's values from its best value, up to a constant; lower is better."""
    return np.abs(np.subtract(values, BEST[name])) if name in BEST else np.asarray(values)
