"""What is said at the end of each reading of cutouts."""

from collections.abc import Sequence
from pathlib import Path


def reading_report(source: Path, n: int, assumptions: Sequence[str], left_out: str = "", n_left_out: int = 0) -> str:
    """Say how many of the n cutouts of a source are used and why others are left out, and below what was assumed."""
    used = f"{n - n_left_out:,} used, {n_left_out:,} left out: {left_out}" if n_left_out else "all used"
    return "\n  ".join((f"{source}: {n:,} cutouts read, {used}", *(f"assumed: {text}" for text in assumptions)))
