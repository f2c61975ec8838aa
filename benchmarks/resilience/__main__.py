"""Try to break the running service: `python -m benchmarks.resilience NAME [options]`.

The exit code is 0 if the thresholds of the program are met. Each program starts a service of its own as its container
starts it, on 127.0.0.1, and ends it.
"""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.harness.environment import RESULTS, SHIPPED

PROGRAMS = ("hostile", "siege", "soak", "kills", "drain", "overload", "rollout")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options of one program, and `program`, its module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resilience", description=__doc__)
    programs = parser.add_subparsers(metavar="NAME", required=True)
    for name in PROGRAMS:
        module = importlib.import_module(f"benchmarks.resilience.{name}")
        form = argparse.RawDescriptionHelpFormatter
        text = module.__doc__
        program = programs.add_parser(name, description=text, formatter_class=form, help=text.split("\n")[0])
        program.set_defaults(program=name, run=module.run)
        program.add_argument("--bundle", type=Path, default=SHIPPED)
        program.add_argument("--seed", type=int, default=0)
        program.add_argument("--output", type=Path, help="of the record; by default in benchmarks/results")
        module.add_options(program)
    options = parser.parse_args(arguments)
    proxy = f"-{options.proxy}" if getattr(options, "proxy", None) else ""
    options.output = options.output or RESULTS / f"resilience-{options.program}{proxy}.json"
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    sys.setswitchinterval(0.0005)  # so that a thread soon sees what came for it
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
