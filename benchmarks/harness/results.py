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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import ROOT, describe

Measured = Mapping[str, float]
Round = Mapping[str, Measured]

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
ALL = "all"  # the name of the one measurement of a program without rounds
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
class Quantity:
    """One number of a measurement: the measurement's name, and the key of the number."""

    name: str
    column: str = "images_per_s"

    def of(self, one: Round) -> float | None:
        """Return it for a round, or None if it was not measured."""
        return one[self.name].get(self.column) if self.name in one else None


@dataclass(frozen=True)
class Threshold:
    """What a number has to reach.

    Parameters
    ----------
    what : str
        The number in words.
    over, under : Quantity
        The number is `over` / `under`, or `over` itself.
    limit : float, optional
        That its median must reach; without it the number is only reported.
    goal : float, optional
        That would be better.
    at_most : bool
        Whether limit and goal are upper ones.
    """

    what: str
    over: Quantity
    under: Quantity | None = None
    limit: float | None = None
    goal: float | None = None
    at_most: bool = False

    def found(self, rounds: Sequence[Round]) -> Spread | None:
        """Return the number over the rounds, None if none of them measured it."""
        pairs = [(self.over.of(one), self.under.of(one) if self.under else 1.0) for one in rounds]
        ratios = [over / under for over, under in pairs if over is not None and under is not None]
        return Spread.of(ratios) if ratios else None

    def is_met(self, rounds: Sequence[Round]) -> bool:
        """Whether the median reaches the limit; one that was not measured does not."""
        found = self.found(rounds)
        return self.limit is None or (found is not None and self.reaches(found.median, self.limit))

    def reaches(self, value: float, limit: float) -> bool:
        """Whether a value is as good as a limit."""
        return value <= limit if self.at_most else value >= limit

    def cells(self, rounds: Sequence[Round]) -> tuple[str, str, str, str]:
        """Write the cells of a table: in words, found, wanted, whether it is met."""
        found, limits, met = self.found(rounds), "", ""
        if self.limit is not None:
            limits = f"{'at most' if self.at_most else 'at least'} {self.limit:g}"
            limits += "" if self.goal is None else f"; go for {self.goal:g}"
        if found is None:
            return self.what, "not measured", limits, ""
        if self.limit is not None:
            met = "yes" if self.reaches(found.median, self.limit) else "**no**"
        if self.goal is not None and self.reaches(found.median, self.goal):
            met = "yes, and the goal"
        return self.what, found.text(".0f" if found.median >= 100 else ".2f"), limits, met


def at_most(what: str, column: str, limit: float) -> Threshold:
    """Set an upper limit for a figure of a program without rounds."""
    return Threshold(what, Quantity(ALL, column), limit=limit, at_most=True)


def at_least(what: str, column: str, limit: float) -> Threshold:
    """Set a lower limit for a figure of a program without rounds."""
    return Threshold(what, Quantity(ALL, column), limit=limit)


def reported(what: str, column: str) -> Threshold:
    """Report a figure of a program without rounds, without a limit."""
    return Threshold(what, Quantity(ALL, column))


def is_met(figures: Measured, thresholds: Sequence[Threshold]) -> bool:
    """Whether figures without rounds meet all thresholds."""
    return all(one.is_met([{ALL: figures}]) for one in thresholds)


def measurements(rounds: Sequence[Round]) -> str:
    """Write the table of all measurements, with the columns that any of them has."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    columns = [column for column in COLUMNS if any(column in one[name] for one in rounds for name in one)]
    rows = ((name, *(_cell(rounds, Quantity(name, column)) for column in columns)) for name in names)
    return table(("measurement", *(COLUMNS[column][0] for column in columns)), rows)


def judgements(rounds: Sequence[Round], thresholds: Sequence[Threshold]) -> str:
    """Write the table of the thresholds and whether they are met."""
    return table(("what", "found", "wanted", "met"), (one.cells(rounds) for one in thresholds))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def write_rounds(path: Path, machine: str, rounds: Sequence[Round], thresholds: Sequence[Threshold]) -> str:
    """Write PATH.md and PATH.json, and return the text of the former."""
    medians = f"Rounds: {len(rounds)}. Each figure is the median over them, in brackets the smallest and the largest."
    text = "\n\n".join([machine.strip(), medians, judgements(rounds, thresholds), measurements(rounds)]) + "\n"
    found = [(one, one.found(rounds)) for one in thresholds]
    figures = [asdict(one) | {"found": spread and asdict(spread)} for one, spread in found]
    write_record(path.with_suffix(".json"), machine, {"thresholds": figures, "rounds": rounds})
    path.with_suffix(".md").write_text(text)
    return text


def write_record(path: Path, machine: str, content: Mapping[str, Any]) -> None:
    """Write a JSON record, with the machine that it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": machine.splitlines(), **content}, indent=1) + "\n")


def conclude(
    name: str,
    options: argparse.Namespace,
    figures: Mapping[str, float],
    thresholds: Sequence[Threshold],
    details: Mapping[str, Any],
) -> int:
    """Print the figures of a program without rounds, write its record to `options.output`, return its exit code."""
    machine, passed = describe(), is_met(figures, thresholds)
    print(f"\n{machine}\n{judgements([{ALL: figures}], thresholds)}\n\n{name}: {'PASS' if passed else 'FAIL'}")
    record = {
        "program": name,
        "passed": passed,
        "options": {key: _plain(value) for key, value in vars(options).items() if key not in PRIVATE},
        "thresholds": [
            {"what": one.what, "found": one.over.of({ALL: figures}), "limit": one.limit} for one in thresholds
        ],
        "figures": figures,
        **details,
    }
    write_record(options.output, machine, record)
    print(f"written to {options.output}", file=sys.stderr)
    return 0 if passed else 1


def _plain(value: Any) -> Any:
    """Write a path relative to the project, so that a record means the same elsewhere."""
    return os.path.relpath(value, ROOT) if isinstance(value, Path) else value


def _cell(rounds: Sequence[Round], quantity: Quantity) -> str:
    values = [value for one in rounds if (value := quantity.of(one)) is not None]
    return Spread.of(values).text(COLUMNS[quantity.column][1]) if values else ""
