"""What a program saw, what was wanted of it, and whether that was met: a table, PASS or FAIL, and one JSON record."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.results import Quantity, Wanted, judgements
from service.settings import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of one program, with the options that all of them have."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.endurance {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--bundle", type=Path, default=ROOT / "models" / "photoz")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--output", type=Path, default=RESULTS / f"endurance-{name}.json", help="where the record goes")
    return made


def at_most(what: str, column: str, limit: float) -> Wanted:
    """Want a figure to be no larger."""
    return Wanted(what, Quantity("all", column), None, limit, at_most=True)


def at_least(what: str, column: str, limit: float) -> Wanted:
    """Want a figure to be no smaller."""
    return Wanted(what, Quantity("all", column), None, limit)


def told(what: str, column: str) -> Wanted:
    """Tell a figure that no bar is set for."""
    return Wanted(what, Quantity("all", column), None)


def is_met(figures: dict[str, float], wanted: Sequence[Wanted]) -> bool:
    """Whether all bars are met; one whose figure is missing is not."""
    return all(_is_met(one, one.over.of({"all": figures})) for one in wanted if one.limit is not None)


def _plain(value: Any) -> Any:
    """Write a path as it is from the root of the project: the record is for others too."""
    return os.path.relpath(value, ROOT) if isinstance(value, Path) else value


def _is_met(wanted: Wanted, found: float | None) -> bool:
    return found is not None and wanted.limit is not None and wanted.reaches(found, wanted.limit)


def conclude(
    name: str, chosen: argparse.Namespace, figures: dict[str, float], wanted: Sequence[Wanted], details: dict[str, Any]
) -> int:
    """Print the table and the verdict, write the record, and give the exit code.

    Parameters
    ----------
    name : str
        Of the program.
    chosen : argparse.Namespace
        Its options, which are written down.
    figures : dict of str to float
        By the columns that `wanted` speaks of.
    wanted : sequence of Wanted
        Bars, and figures without one.
    details : dict
        All else that is to be kept: curves, statuses, examples.
    """
    passed = is_met(figures, wanted)
    machine = environment.describe()
    print(f"\n{machine}\n{judgements([{'all': figures}], wanted)}\n\n{name}: {'PASS' if passed else 'FAIL'}")
    bars = [{"what": one.what, "found": one.over.of({"all": figures}), "limit": one.limit} for one in wanted]
    record = {
        "program": name,
        "passed": passed,
        "environment": machine.splitlines(),
        "options": {key: _plain(value) for key, value in vars(chosen).items() if key != "output"},
        "bars": bars,
        "figures": figures,
        **details,
    }
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {chosen.output}", file=sys.stderr)
    return 0 if passed else 1
