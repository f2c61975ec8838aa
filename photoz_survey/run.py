"""A run of ``photoz score``: estimate its cost, begin or resume it, list chunks that are not scored, complete it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from photoz import drift
from photoz.errors import InvalidDataset, InvalidInput, counted
from photoz.flags import Flag
from photoz.grid import FloatArray
from photoz.inference.engines import KERAS, engine_records
from photoz.inference.openvino import runs
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz_survey.inputs import Chunk, Segment, chunks, find_inputs
from photoz_survey.manifest import NAME, Manifest, Part, Plan, ScoreOptions, check_same, read_manifest, versions
from photoz_survey.parts import DONE, REJECTED, part_name, read_checked, read_part, to_parquet
from photoz_survey.scoring import Scorer
from photoz_survey.storage import Folder

# Columns that the summary needs.
SUMMARISED = ("z_mean", "z_lo68", "z_hi68", "ood_score", "flags")

# Rows of the first file that are scored.
MEASURED_ROWS = 2048

# Requests to an object store for each part whose input is one object: two for its metadata and one for its content; one
# to write the part; two to read the part and its rejected rows at the end.
REQUESTS_PER_PART = 6


@dataclass
class Summary:
    """Counts over all rows of a run."""

    parts: list[Part] = field(default_factory=list)
    flags: Counter[str] = field(default_factory=Counter)
    counts: dict[str, FloatArray] = field(default_factory=dict)  # rows at or below each edge of the card's histograms
    notes: Counter[str] = field(default_factory=Counter)  # files by what was used of them, assumed and left out
    reason: str = ""  # why the first rejected row was rejected

    @property
    def n_done(self) -> int:
        """Number of rows with estimates."""
        return sum(part.n_done for part in self.parts)

    @property
    def n_rejected(self) -> int:
        """Number of rows without estimates, and of unreadable files."""
        return sum(part.n_rejected for part in self.parts)

    def lines(self, card: Card) -> list[str]:
        """Describe the run in words."""
        n = self.n_done
        lines = [f"{counted(n, 'row')} with estimates, {self.n_rejected:,} rejected"]
        lines += [f"  {name}: {count:,} ({count / n:.1%})" for name, count in self.flags.most_common()]
        lines += [f"  {note} ({counted(count, 'file')})" for note, count in self.notes.most_common()]
        if differences := self.differences(card):
            lines.append("largest difference from the distributions of the galaxies in the model card:")
            lines += [f"  {name}: {difference:.3f}" for name, difference in differences.items()]
        return lines

    def record(self, card: Card) -> dict[str, Any]:
        """Return the numbers of `lines` for JSON."""
        counts = {"n_done": self.n_done, "n_rejected": self.n_rejected, "flags": dict(self.flags.most_common())}
        counts["notes"] = dict(self.notes.most_common())
        return counts | {"differences": self.differences(card)}

    def differences(self, card: Card) -> dict[str, float]:
        """Return the largest difference from the cumulative distribution in the card, for each quantity."""
        histograms = card.reference.histograms if card.reference and self.n_done else {}
        return {
            name: float(np.abs(self.counts[name] / self.n_done - histogram.fractions).max())
            for name, histogram in histograms.items()
        }


@dataclass(frozen=True)
class Run:
    """A plan, and the folder of its results."""

    plan: Plan
    bundle: ModelBundle
    folder: Folder
    chunks: tuple[Chunk, ...]

    @classmethod
    def begin(cls, paths: Iterable[str], bundle: Path, options: ScoreOptions, url: str, *, resume: bool) -> "Run":
        """Plan a run and write its manifest; with `resume`, check that the plan has not changed instead.

        Raises `InvalidInput` if the folder is a link, holds a run already or, with `resume`, if it has none, or the
        plan or a part of a complete run has changed; `InvalidDataset` if there is no input; `InvalidBundle`.
        """
        loaded, folder = ModelBundle.load(bundle), Folder(url)
        plan = make_plan(paths, loaded, options)
        try:
            manifest = read_manifest(folder.read(NAME), f"{url}/{NAME}")
        except FileNotFoundError as error:
            if resume:
                raise InvalidInput(f"{url} holds no {NAME}: leave out --resume") from error
            folder.write(NAME, _json(Manifest(plan=plan, versions=versions())))
        else:
            if not resume:
                raise InvalidInput(f"{url} holds a run already: give --resume, or another folder")
            check_same(manifest.plan, plan)
            for part in manifest.parts:  # of a run that was completed
                with suppress(FileNotFoundError):  # it is scored again
                    read_checked(folder, part)
            plan = manifest.plan  # an older version may have written `object_id` as another type
        return cls(plan, loaded, folder, tuple(chunks(plan.inputs, options.rows_per_part)))

    def missing(self) -> list[Chunk]:
        """Return the chunks that are not scored yet; removes files that were not written to the end."""
        for kind in (DONE, REJECTED):
            self.folder.remove_incomplete(kind, {part_name(chunk.number) for chunk in self.chunks})
        done = set(self.folder.names(DONE))
        return [chunk for chunk in self.chunks if part_name(chunk.number) not in done]

    def finish(self) -> Summary:
        """Read all parts, and complete the manifest."""
        numbers = {chunk.number: self._n_written(chunk) for chunk in self.chunks}
        summary = summarise(self.folder, numbers, self.bundle.card)
        manifest = Manifest(
            plan=self.plan, versions=versions(), is_complete=True, notes=summary.notes, parts=tuple(summary.parts)
        )
        self.folder.write(NAME, _json(manifest))
        return summary

    def _n_written(self, chunk: Chunk) -> int | None:
        """Return the number of rows of a part, one of them for each unreadable file; None if it is not known."""
        if any(segment.last is None for segment in chunk.segments):
            return None
        return chunk.n_rows + sum(bool(self.plan.inputs[segment.file].error) for segment in chunk.segments)


def summarise(folder: Folder, numbers: Mapping[int, int | None], card: Card) -> Summary:
    """Read all parts, by number with their rows if these are known, one at a time, and count."""
    summary = Summary()
    for number, n_rows in numbers.items():
        content = read_part(folder, number, SUMMARISED, n_rows)
        columns = content.columns
        summary.parts.append(content.part)
        summary.notes.update(content.notes)
        summary.reason = summary.reason or content.reason
        for flag in Flag:
            if count := int(np.count_nonzero(columns["flags"] & flag.value)):
                summary.flags[str(flag.name)] += count
        quantities = drift.quantities(columns)
        for name, histogram in (card.reference.histograms if card.reference else {}).items():
            values = quantities[name][~np.isnan(quantities[name])]
            below = np.searchsorted(np.sort(values), np.asarray(histogram.edges), side="right").astype(float)
            summary.counts[name] = summary.counts.get(name, 0.0) + below
    return summary


def make_plan(paths: Iterable[str], bundle: ModelBundle, options: ScoreOptions) -> Plan:
    """Plan to score files by a model; raises `InvalidDataset` if there is no file."""
    card = bundle.card
    return Plan(
        model=f"{card.name} {card.version}",
        digest=card.digest,
        engine=_engine(bundle),
        grid=card.grid,
        settings=options,
        inputs=tuple(find_inputs(paths, options)),
    )


def _engine(bundle: ModelBundle) -> str:
    """Return the name of the engine that this processor runs."""
    records = engine_records(bundle)
    return next((record.name for record in records if runs(record.precision)), KERAS)


def _json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode() + b"\n"


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
        f"on one core: {rate:,.0f} rows/s, of {counted(n, 'row')}",
        f"for each row: {read:,.0f} bytes to read, {written:,.0f} to write",
        f"{counted(n_rows, 'row')}:",
        f"  {read * n_rows / 1e9:,.1f} GB to read; if they are not local, "
        f"{read * rate * 8e-9:,.2f} Gbit/s for each core",
        f"  {written * n_rows / 1e9:,.1f} GB to write, in {counted(parts, 'part')}",
        f"  {n_rows / rate / 3600:,.1f} core hours",
        f"  about {parts * REQUESTS_PER_PART:,} requests of an object store, if each part has an input of its own",
    ]
