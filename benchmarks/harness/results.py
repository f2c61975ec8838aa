"""Results: numbers in words with their limits, as a table and as a JSON record."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import ROOT, describe

HEAD = ("what", "measured", "wanted", "met")
PRIVATE = ("output", "run")  # options that do not go into a record


@dataclass(frozen=True)
class Result:
    """A number in words, its measured values, and its limit: without one it is only reported."""

    what: str
    values: tuple[float, ...]
    limit: float | None = None
    at_most: bool = False

    @property
    def median(self) -> float | None:
        """The median, or None if nothing was measured."""
        return statistics.median(self.values) if self.values else None

    @property
    def is_met(self) -> bool:
        """Whether the median is as good as the limit; a number that was not measured, or is NaN, is not."""
        if self.limit is None or self.median is None:
            return self.limit is None
        return self.median <= self.limit if self.at_most else self.median >= self.limit

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The cells of a table: in words, measured, wanted, whether it is met."""
        limited = self.limit is not None
        wanted = f"{'at most' if self.at_most else 'at least'} {self.limit:g}" if limited else ""
        if self.median is None:
            return self.what, "not measured", wanted, ""
        form, low, high = ".0f" if abs(self.median) >= 100 else ".2f", min(self.values), max(self.values)
        spread = "" if low == high else f" ({low:{form}} to {high:{form}})"
        return (
            self.what,
            f"{self.median:{form}}{spread}",
            wanted,
            ("yes" if self.is_met else "**no**") if limited else "",
        )


def at_most(what: str, measured: float | Sequence[float] | None, limit: float) -> Result:
    """Set an upper limit for a number."""
    return Result(what, _values(measured), limit, at_most=True)


def at_least(what: str, measured: float | Sequence[float] | None, limit: float) -> Result:
    """Set a lower limit for a number."""
    return Result(what, _values(measured), limit)


def reported(what: str, measured: float | Sequence[float] | None) -> Result:
    """Report a number without a limit."""
    return Result(what, _values(measured))


def _values(measured: float | Sequence[float] | None) -> tuple[float, ...]:
    if isinstance(measured, Sequence):
        return tuple(map(float, measured))
    return () if measured is None else (float(measured),)


def all_met(results: Iterable[Result]) -> bool:
    """Whether all limits are met."""
    return all(result.is_met for result in results)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def conclude(options: argparse.Namespace, results: Sequence[Result], details: Mapping[str, Any]) -> int:
    """Print the results of a program, write its record to `options.output`, and return its exit code."""
    machine, passed = describe(), all_met(results)
    print(f"\n{machine}", table(HEAD, [result.cells for result in results]), sep="\n")
    print(f"\n{options.program}: {'PASS' if passed else 'FAIL'}")
    record = {
        "environment": machine.splitlines(),
        "passed": passed,
        "options": {key: _plain(value) for key, value in vars(options).items() if key not in PRIVATE},
        "results": [
            {"what": result.what, "median": result.median, "values": result.values, "limit": result.limit}
            for result in results
        ],
        **details,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {options.output}", file=sys.stderr)
    return 0 if passed else 1


def _plain(value: Any) -> Any:
    """Write paths relative to the project, so that a record means the same elsewhere."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return os.path.relpath(value, ROOT) if isinstance(value, Path) else value
