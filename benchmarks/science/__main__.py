"""Measure the science: `python -m benchmarks.science NAME [arguments]`, each described in its file.

ood         what the out-of-distribution score catches    realism    SDSS's files and the simulated images
ablations   what each part of the training recipe buys    seeds      how much of the scores is chance
"""

import importlib
import sys

NAMES = ("ood", "realism", "ablations", "seeds")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(__doc__)
    importlib.import_module(f"benchmarks.science.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
