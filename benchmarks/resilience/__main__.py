"""Try to break the running service: `python -m benchmarks.endurance NAME [options]`.

The exit code is 0 if the bars of the program are met. Each program starts a service of its own as its container starts
it, on 127.0.0.1, and ends it.
"""

import importlib
import sys

PROGRAMS = ("hostile", "soak", "kills", "drain", "overload", "slow", "rollout")


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in PROGRAMS:
        print(f"{__doc__}\nNAME is one of {', '.join(PROGRAMS)}; NAME --help tells its options.")
        return 2
    module = importlib.import_module(f"benchmarks.endurance.{sys.argv[1]}")
    return int(module.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
