"""Estimate the time and the bytes of a run from a few rows on this machine."""

import time
from dataclasses import dataclass
from math import ceil

from photoz.errors import InvalidDataset
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk, Segment
from photoz_survey.manifest import Plan
from photoz_survey.parts import to_parquet
from photoz_survey.scoring import Scorer

# Rows of the first file that are scored.
MEASURED_ROWS = 2048

# Requests to an object store for each part whose input is one object: two for its metadata and one for its content; one
# to write the part; two to read the part and its rejected rows at the end.
REQUESTS_PER_PART = 6


@dataclass(frozen=True)
class Rates:
    """Measured on one thread of one core."""

    n_rows: int
    rows_per_s: float
    read_bytes: float  # per row of the input
    written_bytes: float  # per row of the part
    rows_per_part: int

    def lines(self, n_rows: int) -> list[str]:
        """Describe the cost of scoring `n_rows` rows."""
        hours, parts = n_rows / self.rows_per_s / 3600, ceil(n_rows / self.rows_per_part)
        return [
            f"on one core: {self.rows_per_s:,.0f} rows/s, of {self.n_rows:,} rows",
            f"for each row: {self.read_bytes:,.0f} bytes to read, {self.written_bytes:,.0f} to write",
            f"{n_rows:,} rows:",
            f"  {self.read_bytes * n_rows / 1e9:,.1f} GB to read; if they are not local, "
            f"{self.read_bytes * self.rows_per_s * 8e-9:,.2f} Gbit/s for each core",
            f"  {self.written_bytes * n_rows / 1e9:,.1f} GB to write, in {parts:,} parts",
            f"  {hours:,.1f} core hours",
            f"  about {parts * REQUESTS_PER_PART:,} requests of an object store, if each part has an input of its own",
        ]


def measure(plan: Plan, bundle: ModelBundle) -> Rates:
    """Score the first rows of the first file that can be read, twice, and measure the second time.

    A file at a URL is scored whole. Raises `InvalidDataset` if no file can be read, or no row has estimates.
    """
    number = next((number for number, file in enumerate(plan.inputs) if not file.error), None)
    if number is None:
        raise InvalidDataset(f"no input can be read: {plan.inputs[0].error}")
    file = plan.inputs[number]
    last = None if file.n_rows is None else min(file.n_rows, MEASURED_ROWS)
    chunk, scorer = Chunk(0, (Segment(number, 0, last),)), Scorer(plan, bundle)
    scorer.score(chunk)
    start = time.perf_counter()
    scored = scorer.score(chunk)
    content = to_parquet(scored.done)
    seconds, n_done = time.perf_counter() - start, sum(map(len, scored.done))
    if not n_done:
        raise InvalidDataset(f"no row of {file.path} has estimates: {scored.rejected[0]['reason']}")
    n = n_done + len(scored.rejected)
    return Rates(n, n / seconds, file.size / (file.n_rows or n), len(content) / n, plan.settings.rows_per_part)
