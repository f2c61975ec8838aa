"""Estimate the time and the bytes of a run from a few rows on this machine."""

import time
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


def estimate_cost(plan: Plan, bundle: ModelBundle, n_rows: int) -> list[str]:
    """Describe the cost of scoring `n_rows` rows, in lines of text.

    The first rows of the first file that can be read, or a whole file at a URL, are scored on one thread; the second of
    two times counts. Raises `InvalidDataset` if no file can be read, or no row has estimates.
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
    rate, read, written = n / seconds, file.size / (file.n_rows or n), len(content) / n  # bytes per row
    parts = ceil(n_rows / plan.settings.rows_per_part)
    return [
        f"on one core: {rate:,.0f} rows/s, of {n:,} rows",
        f"for each row: {read:,.0f} bytes to read, {written:,.0f} to write",
        f"{n_rows:,} rows:",
        f"  {read * n_rows / 1e9:,.1f} GB to read; if they are not local, "
        f"{read * rate * 8e-9:,.2f} Gbit/s for each core",
        f"  {written * n_rows / 1e9:,.1f} GB to write, in {parts:,} parts",
        f"  {n_rows / rate / 3600:,.1f} core hours",
        f"  about {parts * REQUESTS_PER_PART:,} requests of an object store, if each part has an input of its own",
    ]
