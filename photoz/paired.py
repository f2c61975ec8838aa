"""Figures of merit of two models on the same galaxies, and whether the second is worse.

The two err together: most galaxies that are hard for one are hard for the other. So the galaxies are resampled once for
both, and what they have in common drops out of the error of the difference.
"""

import numpy as np
from pydantic.dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz.grid import FloatArray
from photoz.metrics import FIGURES, N_RESAMPLES, GalaxyScores, Score, sigma_mad

# What a figure is at best, where that is not as low as can be.
BEST = {"bias": 0.0, "coverage_68": 0.68, "coverage_95": 0.95}

# Differences of these are parts of a probability already.
IN_PROBABILITY = ("pit_ks", "coverage_68", "coverage_95")

# Errors that a difference must exceed before it is taken for one.
N_SIGMA = 2.0


@dataclass(frozen=True)
class FigurePair:
    """One figure of both models.

    Parameters
    ----------
    a, b : Score
        Of the first and of the second model.
    worsening : Score
        How much farther from the best the second is than the first, and the error of that difference.
    unit : float
        What a tolerance is a part of: A's figure; for the bias A's sigma_mad; for probabilities 1.
    """

    a: Score
    b: Score
    worsening: Score
    unit: float

    def threshold(self, tolerance: float) -> float:
        """Change that counts: beyond `N_SIGMA` errors, and beyond a tolerated part of `unit`."""
        return max(N_SIGMA * self.worsening.error, tolerance * self.unit)

    def is_worse(self, tolerance: float) -> bool:
        """Tell whether the second model is worse by more than `threshold`."""
        return self.worsening.value > self.threshold(tolerance)

    def is_better(self, tolerance: float) -> bool:
        """Tell whether the second model is better by more than `threshold`."""
        return -self.worsening.value > self.threshold(tolerance)


def figure_pairs(
    a: GalaxyScores, b: GalaxyScores, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, FigurePair]:
    """Reduce the scores of the same galaxies by two models to pairs of figures.

    Parameters
    ----------
    a, b : GalaxyScores
        The n galaxies, at least one, by each model.
    n_resamples : int
        Bootstrap resamples of the galaxies behind each error, the same ones for both.
    seed : int
        Of the resampling.

    Returns
    -------
    dict of str to FigurePair
        For those of `photoz.metrics.FIGURES` that the columns of both allow. Figures and errors are those that
        `photoz.metrics.summarise` gives for each model.

    Raises
    ------
    InvalidInput
        If they are not as many, or none.
    """
    if not len(a) or len(a) != len(b):
        raise InvalidInput(f"expected the same galaxies, at least one, got {len(a)} and {len(b)}")
    both, rng = (a, b), np.random.default_rng(seed)
    figures = {name: of for name, (column, of) in FIGURES.items() if all(getattr(x, column) is not None for x in both)}
    drawn = {name: np.empty((n_resamples, 2)) for name in figures}
    for i in range(n_resamples):
        rows = rng.integers(0, len(a), len(a))
        resamples = [x.take(rows) for x in both]
        for name, of in figures.items():
            drawn[name][i] = [of(x) for x in resamples]
    values = {name: np.array([of(x) for x in both]) for name, of in figures.items()}
    units = {name: 1.0 if name in IN_PROBABILITY else abs(float(pair[0])) for name, pair in values.items()}
    units["bias"] = sigma_mad(a.dz)  # of an unbiased model any bias would be many times the former
    return {name: _pair(name, values[name], drawn[name], units[name]) for name in figures}


def _pair(name: str, values: FloatArray, drawn: FloatArray, unit: float) -> FigurePair:
    """Pair the values (2,) of a figure and those of its resamples (n_resamples, 2)."""
    errors = np.std(drawn, axis=0)
    a, b = (Score(float(value), float(error)) for value, error in zip(values, errors, strict=True))
    worsening, worsenings = np.diff(_shortfall(name, values)), np.diff(_shortfall(name, drawn))
    return FigurePair(a, b, Score(float(worsening[0]), float(np.std(worsenings))), unit)


def _shortfall(name: str, values: FloatArray) -> FloatArray:
    """How far values of a figure are from the best, up to a constant: less is better."""
    return np.abs(values - BEST[name]) if name in BEST else values
