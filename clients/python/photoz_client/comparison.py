"""Compare two predictions for the same galaxies, and judge whether the second may replace the first."""

from photoz_client._comparison import TOLERANCE, Comparison, Verdict, compare, judge

__all__ = ["TOLERANCE", "Comparison", "Verdict", "compare", "judge"]
