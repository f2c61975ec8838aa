"""Measure the science: `python -m benchmarks.science NAME`; see each file."""

import importlib
import sys

NAMES = ("adapting", "ood", "real_field", "real_pixels")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python -m benchmarks.science {'|'.join(NAMES)}")
    sys.exit(importlib.import_module(f"benchmarks.science.{sys.argv[1]}").main(sys.argv[2:]))
