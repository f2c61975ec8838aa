"""Measure the science: `python -m benchmarks.science ood|realism|real_field|ablations|seeds`; see each file."""

import importlib
import sys

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("ood", "realism", "real_field", "ablations", "seeds"):
        sys.exit(__doc__)
    importlib.import_module(f"benchmarks.science.{sys.argv[1]}").main(sys.argv[2:])
