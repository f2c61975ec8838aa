"""The command line that the speed and peers benchmarks share."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.environment import ROOT, SHIPPED

BUNDLES = (SHIPPED, ROOT / "runs" / "bundles" / "inception")  # the second if it exists


def parse(prog: str, description: str | None, parts: Sequence[str]) -> argparse.Namespace:
    """Read bundle (list of Path), rounds, seconds and only (some of the parts)."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument(
        "--bundle", type=Path, action="append", help="default: the shipped one, and runs/bundles/inception"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of one second: whether it works, not how fast")
    parser.add_argument("--only", choices=parts, action="append", help="measure these alone")
    options = parser.parse_args()
    options.bundle = options.bundle or [path for path in BUNDLES if path.exists()]
    options.only = options.only or list(parts)
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options
