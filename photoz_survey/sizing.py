"""What a run takes, from the rate and the sizes of a few rows on this machine."""

import time
from dataclasses import dataclass
from math import ceil

from photoz.errors import InvalidDataset
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk, Segment
from photoz_survey.manifest import Plan
from photoz_survey.parts import to_parquet
from photoz_survey.scoring import Scorer

# Rows that are scored to measure, of one file.
MEASURED_ROWS = 2048

# Requests of an object store for each part whose input is one object: what it is, twice, and the object; the part;
# and the part and its rejected rows again at the end.
REQUESTS_PER_PART = 6


@dataclass(frozen=True)
class Rates:
    """What was measured on one thread of one core."""

    n_rows: int
    rows_per_s: float
    read_bytes: float  # of the input, for each row
    written_bytes: float  # of the part, for each row
    rows_per_part: int

    def lines(self, n_rows: int) -> list[str]:
        """Describe in words what so many rows take."""
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
    found = next((number for number, one in enumerate(plan.inputs) if not one.error), None)
    if found is None:
        raise InvalidDataset(f"no input can be read: {plan.inputs[0].error}")
    file = plan.inputs[found]
    last = None if file.n_rows is None else min(file.n_rows, MEASURED_ROWS)
    chunk, scorer = Chunk(0, (Segment(found, 0, last),)), Scorer(plan, bundle)
    scorer.score(chunk)
    began = time.perf_counter()
    scored = scorer.score(chunk)
    content = to_parquet(scored.done)
    seconds, n_done = time.perf_counter() - began, sum(map(len, scored.done))
    if not n_done:
        raise InvalidDataset(f"no row of {file.path} has estimates: {scored.rejected[0]['reason']}")
    n = n_done + len(scored.rejected)
    return Rates(n, n / seconds, file.size / (file.n_rows or n), len(content) / n, plan.settings.rows_per_part)
