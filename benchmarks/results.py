"""What the rounds of a benchmark saw: medians, ratios within each round, tables, and what was wanted.

A measurement has a name such as "compact/service/32x1" (bundle, what ran, clients x images a request, or the size of
the batch without HTTP) and a few numbers. Each round holds one of each name. Ratios are taken within a round, since the
two sides then saw the same machine.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
        """Write it as "median (low to high)", or alone where there is one value."""
        if self.low == self.high:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True)
class Quantity:
    """One number of a measurement.

    Parameters
    ----------
    name : str
        Of the measurement.
    column : str
        One of `COLUMNS`.
    """

    name: str
    column: str = "images_per_s"

    def of(self, one: Round) -> float | None:
        """Give it for a round, or None if it was not measured."""
        return one[self.name].get(self.column) if self.name in one else None


@dataclass(frozen=True)
class Wanted:
    """A figure that is wanted.

    Parameters
    ----------
    what : str
        In words.
    over, under : Quantity
        The figure is `over` / `under`, or `over` itself.
    limit : float, optional
        That its median must reach; without it the figure is reported.
    goal : float, optional
        That would be better.
    at_most : bool
        Whether limit and goal are from above.
    """

    what: str
    over: Quantity
    under: Quantity | None
    limit: float | None = None
    goal: float | None = None
    at_most: bool = False

    def found(self, rounds: Sequence[Round]) -> Spread | None:
        """Give what the rounds say of it; None if none of them measured it."""
        pairs = [(self.over.of(one), self.under.of(one) if self.under else 1.0) for one in rounds]
        ratios = [over / under for over, under in pairs if over is not None and under is not None]
        return Spread.of(ratios) if ratios else None

    def reaches(self, value: float, limit: float) -> bool:
        """Whether a value is as good as a limit."""
        return value <= limit if self.at_most else value >= limit


def measurements(rounds: Sequence[Round]) -> str:
    """Write the table of all measurements, with the columns that any of them has."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    columns = [column for column in COLUMNS if any(column in one[name] for one in rounds for name in one)]
    lines = [_line("measurement", *(COLUMNS[column][0] for column in columns)), _rule(len(columns) + 1)]
    for name in names:
        cells = (_cell(rounds, Quantity(name, column)) for column in columns)
        lines.append(_line(name, *cells))
    return "\n".join(lines)


def judgements(rounds: Sequence[Round], wanted: Sequence[Wanted]) -> str:
    """Write the table of what was wanted and whether it was met."""
    lines = [_line("what", "found", "wanted", "met"), _rule(4)]
    lines += (_line(one.what, *_judged(one, one.found(rounds))) for one in wanted)
    return "\n".join(lines)


def write(path: Path, environment: str, rounds: Sequence[Round], wanted: Sequence[Wanted]) -> str:
    """Write PATH.md and PATH.json, and give the text of the former."""
    medians = f"Rounds: {len(rounds)}. Each figure is the median over them, in brackets the smallest and the largest."
    text = "\n\n".join([environment.strip(), medians, judgements(rounds, wanted), measurements(rounds)]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text)
    figures = [asdict(one) | {"found": spread and asdict(spread)} for one, spread in _found(rounds, wanted)]
    content = {"environment": environment.splitlines(), "wanted": figures, "rounds": rounds}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return text


def _found(rounds: Sequence[Round], wanted: Sequence[Wanted]) -> Iterator[tuple[Wanted, Spread | None]]:
    for one in wanted:
        yield one, one.found(rounds)


def _cell(rounds: Sequence[Round], quantity: Quantity) -> str:
    values = [value for one in rounds if (value := quantity.of(one)) is not None]
    return Spread.of(values).text(COLUMNS[quantity.column][1]) if values else ""


def _judged(wanted: Wanted, found: Spread | None) -> tuple[str, str, str]:
    if found is None:
        return "not measured", _limits(wanted), ""
    text = found.text(".0f" if found.median >= 100 else ".2f")
    if wanted.limit is None:
        return text, "", ""
    met = "yes" if wanted.reaches(found.median, wanted.limit) else "**no**"
    if wanted.goal is not None and wanted.reaches(found.median, wanted.goal):
        met = "yes, and the goal"
    return text, _limits(wanted), met


def _limits(wanted: Wanted) -> str:
    if wanted.limit is None:
        return ""
    goal = "" if wanted.goal is None else f"; go for {wanted.goal:g}"
    return f"{'at most' if wanted.at_most else 'at least'} {wanted.limit:g}{goal}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(n: int) -> str:
    return "|" + " --- |" * n
