"""Results: medians, ratios within each round, thresholds, tables and JSON records.

A measurement has a name such as "compact/service/32x1" (bundle, what ran, clients x images a request, or the size of
the batch without HTTP) and a few numbers. Each round holds one of each name. Ratios are taken within a round, since
both sides then had the same machine.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import ROOT, describe

Measured = Mapping[str, float]
Round = Mapping[str, Measured]
Key = tuple[str, str]  # of a number: a measurement's name, and one of COLUMNS

COLUMNS = {
    "images_per_s": ("images/s", ".0f"),
    "p50_ms": ("p50, ms", ".2f"),
    "p95_ms": ("p95, ms", ".2f"),
    "p99_ms": ("p99, ms", ".2f"),
    "generator_ms": ("load generator's processor time a request, ms", ".2f"),
    "late_p99_ms": ("p99 of late departures, ms", ".2f"),
    "seconds": ("seconds", ".2f"),
    "rss_mb": ("RSS, MB", ".0f"),
    "pss_mb": ("PSS, MB", ".0f"),
}
HEAD = ("what", "found", "wanted", "met")
PRIVATE = ("output", "run")  # options that do not go into a record


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str = ".2f") -> str:
        """Write it as "median (low to high)", or as one number if all are equal."""
        if self.low == self.high:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True)
class Result:
    """A number in words, what was found, and what is wanted: without a limit it is only reported."""

    what: str
    found: Spread | None
    limit: float | None = None
    goal: float | None = None
    at_most: bool = False

    def reaches(self, limit: float | None) -> bool:
        """Whether the median is as good as a limit; one that was not measured is not."""
        if self.found is None or limit is None:
            return limit is None
        return self.found.median <= limit if self.at_most else self.found.median >= limit

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The cells of a table: in words, found, wanted, whether it is met."""
        wanted = met = ""
        if self.limit is not None:
            wanted = f"{'at most' if self.at_most else 'at least'} {self.limit:g}"
            wanted += "" if self.goal is None else f"; go for {self.goal:g}"
            met = "yes" if self.reaches(self.limit) else "**no**"
        if self.goal is not None and self.reaches(self.goal):
            met = "yes, and the goal"
        if self.found is None:
            return self.what, "not measured", wanted, ""
        return self.what, self.found.text(".0f" if self.found.median >= 100 else ".2f"), wanted, met


@dataclass(frozen=True)
class Threshold:
    """What a number of the rounds has to reach: `over` / `under`, or `over` itself."""

    what: str
    over: Key
    under: Key | None = None
    limit: float | None = None
    goal: float | None = None
    at_most: bool = False

    def result(self, rounds: Sequence[Round]) -> Result:
        """Look the number up in the rounds; those that lack a side are left out."""
        pairs = [(look_up(one, self.over), look_up(one, self.under) if self.under else 1.0) for one in rounds]
        ratios = [over / under for over, under in pairs if over is not None and under is not None]
        return Result(self.what, Spread.of(ratios) if ratios else None, self.limit, self.goal, self.at_most)


def look_up(one: Round, key: Key) -> float | None:
    """Return a number of a round, or None if it was not measured."""
    name, column = key
    return one[name].get(column) if name in one else None


def at_most(what: str, value: float | None, limit: float) -> Result:
    """Set an upper limit for a number."""
    return replace(reported(what, value), limit=limit, at_most=True)


def at_least(what: str, value: float | None, limit: float) -> Result:
    """Set a lower limit for a number."""
    return replace(reported(what, value), limit=limit)


def reported(what: str, value: float | None) -> Result:
    """Report a number without a limit."""
    return Result(what, None if value is None else Spread.of([float(value)]))


def all_met(results: Iterable[Result]) -> bool:
    """Whether all limits are met."""
    return all(one.reaches(one.limit) for one in results)


def measurements(rounds: Sequence[Round]) -> str:
    """Write the table of all measurements, with the columns that any of them has."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    columns = [column for column in COLUMNS if any(column in one[name] for one in rounds for name in one)]
    rows = ((name, *(_cell(rounds, (name, column)) for column in columns)) for name in names)
    return table(("measurement", *(COLUMNS[column][0] for column in columns)), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def write_rounds(path: Path, machine: str, rounds: Sequence[Round], thresholds: Sequence[Threshold]) -> str:
    """Write PATH.md and PATH.json, and return the text of the former."""
    medians = f"Rounds: {len(rounds)}. Each number is the median over them, in brackets the smallest and the largest."
    results = [one.result(rounds) for one in thresholds]
    judged = table(HEAD, [one.cells for one in results])
    text = f"{machine.strip()}\n\n{medians}\n\n{judged}\n\n{measurements(rounds)}\n"
    write_record(path.with_suffix(".json"), machine, {"results": [asdict(one) for one in results], "rounds": rounds})
    path.with_suffix(".md").write_text(text)
    return text


def write_record(path: Path, machine: str, content: Mapping[str, Any]) -> None:
    """Write a JSON record, with the machine that it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": machine.splitlines(), **content}, indent=1) + "\n")


def conclude(options: argparse.Namespace, results: Sequence[Result], details: Mapping[str, Any]) -> int:
    """Print the results of a program without rounds, write its record to `options.output`, return its exit code."""
    machine, passed = describe(), all_met(results)
    print(f"\n{machine}", table(HEAD, [one.cells for one in results]), sep="\n")
    print(f"\n{options.program}: {'PASS' if passed else 'FAIL'}")
    record = {
        "passed": passed,
        "options": {key: _plain(value) for key, value in vars(options).items() if key not in PRIVATE},
        "results": [{"what": one.what, "found": one.found and one.found.median, "limit": one.limit} for one in results],
        **details,
    }
    write_record(options.output, machine, record)
    print(f"written to {options.output}", file=sys.stderr)
    return 0 if passed else 1


def _plain(value: Any) -> Any:
    """Write a path relative to the project, so that a record means the same elsewhere."""
    return os.path.relpath(value, ROOT) if isinstance(value, Path) else value


def _cell(rounds: Sequence[Round], key: Key) -> str:
    values = [value for one in rounds if (value := look_up(one, key)) is not None]
    return Spread.of(values).text(COLUMNS[key[1]][1]) if values else ""
