"""Compare two predictions for the same galaxies, and judge whether the second may replace the first."""

from photoz_client.comparison.differences import Comparison, compare
from photoz_client.comparison.verdict import TOLERANCE, Verdict, judge

__all__ = ["TOLERANCE", "Comparison", "Verdict", "compare", "judge"]
