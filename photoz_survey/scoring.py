"""Score chunks of cutouts: the same function on one machine and on a cluster."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from photoz import pdf
from photoz.errors import InvalidInput, PhotozError
from photoz.estimates import COLUMNS
from photoz.grid import IntArray
from photoz.images import Batch
from photoz.inference.predictor import Predictor
from photoz.inference.reading import BATCH_ROWS, read_batches
from photoz.io.cutouts import Cutouts
from photoz.io.fields import open_or_cut
from photoz.io.layout import conform
from photoz.io.parquet import to_arrow
from photoz.io.provenance import Provenance
from photoz.io.tables import PASSED_COLUMNS, ResultTable, quantile_name
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk, Segment, has_changed
from photoz_survey.manifest import Plan
from photoz_survey.storage import local_copy

Array = npt.NDArray[Any]
Columns = dict[str, Array]  # (m,) each

OVERFLOW = "the pixel values overflow the network: mask such pixels with NaN"


@dataclass(frozen=True)
class Scored:
    """The result of a chunk: tables of the rows with estimates, the rejected rows with the reason, and notes."""

    done: list[pa.Table] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)  # files that begin in the chunk, by what was done with them

    def reject(self, file: str, row: int | None, object_id: str, why: str) -> None:
        """Add a row without an estimate; None stands for all rows of a file that cannot be read."""
        self.rejected.append({"file": file, "row": row, "object_id": object_id, "reason": why})


class Scorer:
    """Scores chunks by a model, whose network runs on one thread.

    Raises `InvalidInput` if the bundle is not that of the plan.
    """

    def __init__(self, plan: Plan, bundle: ModelBundle) -> None:
        if bundle.card.digest != plan.digest:
            raise InvalidInput(f"expected the bundle of {plan.model}, got another one at {bundle.path}")
        self._plan, self._card = plan, bundle.card
        self._type_of_ids = np.int64 if plan.integer_ids else np.str_
        self._predictor = Predictor.load(bundle, engine=plan.engine)

    def score(self, chunk: Chunk) -> Scored:
        """Score a chunk; each of its rows is in the result once.

        Raises `InvalidInput` if a file has changed since the plan was made, `OSError` if it cannot be fetched.
        """
        scored, waiting, n = Scored(), list[tuple[Columns, Batch]](), 0
        for segment in chunk.segments:
            for columns, batch in self._read(segment, scored):
                waiting.append((columns, batch))
                n += len(batch)
                if n >= BATCH_ROWS:
                    self._predict(waiting, scored)
                    waiting, n = [], 0
        if waiting:
            self._predict(waiting, scored)
        if not scored.done:
            scored.done.append(self._empty())
        return scored

    def _read(self, segment: Segment, scored: Scored) -> Iterator[tuple[Columns, Batch]]:
        """Yield the valid cutouts of a segment in batches, with their columns."""
        file = self._plan.inputs[segment.file]
        if file.error:
            scored.reject(file.path, None, "", file.error)
            return
        with local_copy(file.path) as path, ExitStack() as stack:
            if has_changed(file):  # also while it was copied
                raise InvalidInput(f"{file.path} has changed since the run was begun")
            try:
                cutouts = self._conformed(stack.enter_context(open_or_cut(path, self._card.image, self._plan.settings)))
                if segment.first == 0:
                    scored.notes.update(cutouts.reading.lines())
            except PhotozError as error:
                for row in [None] if segment.last is None else range(segment.first, segment.last):
                    scored.reject(file.path, row, "" if row is None else str(row), str(error))
                return

            def reject(row: int, why: str) -> None:
                scored.reject(file.path, row, str(self._names(cutouts, np.array([row]))[0]), why)

            rows = np.arange(segment.first, len(cutouts) if segment.last is None else segment.last)
            batches = read_batches(cutouts, self._card.image, self._card.inputs.ebv_default, rows, reject=reject)
            for some, batch in batches:
                yield self._columns(cutouts, some, file.path), batch

    def _conformed(self, opened: Cutouts) -> Cutouts:
        cutouts, _ = conform(opened, self._card.image, self._plan.settings)
        for name in self._plan.settings.columns:
            cutouts.column(name)  # raises if it is missing
        return cutouts

    def _columns(self, cutouts: Cutouts, rows: IntArray, file: str) -> Columns:
        """Return the columns of rows, (m,), that are written beside the estimates."""
        unknown, given = np.full(len(rows), np.nan), cutouts.columns
        columns: Columns = {"file": np.full(len(rows), file), "row": rows, "object_id": self._names(cutouts, rows)}
        columns["flags"] = np.full(len(rows), cutouts.flags, np.int32)
        columns |= {name: np.asarray(given[name][rows] if name in given else unknown, float) for name in PASSED_COLUMNS}
        return columns | {name: given[name][rows] for name in self._plan.settings.columns}

    def _names(self, cutouts: Cutouts, rows: IntArray) -> Array:
        """Return the names of cutouts: their rows if the file has none."""
        names = cutouts.columns.get("object_id")
        return (rows if names is None else names[rows]).astype(self._type_of_ids)

    def _predict(self, read: Sequence[tuple[Columns, Batch]], scored: Scored) -> None:
        columns = {name: np.concatenate([part[name] for part, _ in read]) for name in read[0][0]}
        batch = Batch.concatenate([batch for _, batch in read])
        flags = columns["flags"]
        columns |= self._predictor.summarise(batch, self._predictor.run_network(batch))
        columns["flags"] |= flags
        good = np.isfinite(columns["pdf"][:, 0])
        for row in np.flatnonzero(~good):
            file, number, name = (columns[key][row].item() for key in ("file", "row", "object_id"))
            scored.reject(file, number, str(name), OVERFLOW)
        scored.done.append(self._table({name: values[good] for name, values in columns.items()}))

    def _empty(self) -> pa.Table:
        """Return a table without rows."""
        columns = dict[str, Array].fromkeys((*PASSED_COLUMNS, *self._plan.settings.columns, *COLUMNS), np.empty(0))
        columns |= {"file": np.empty(0, np.str_), "object_id": np.empty(0, self._type_of_ids)}
        columns |= {"row": np.empty(0, np.int64), "flags": np.empty(0, np.int32)}
        return self._table(columns | {"pdf": np.empty((0, self._card.grid.n_bins))})

    def _table(self, found: Columns) -> pa.Table:
        settings = self._plan.settings
        names = ("file", "row", "object_id", *PASSED_COLUMNS, *settings.columns, *COLUMNS)
        columns = {name: found[name] for name in names}
        columns |= {quantile_name(q): pdf.quantile(found["pdf"], self._card.grid, q) for q in settings.quantiles}
        if settings.pdf is not None:
            flat = pa.array(found["pdf"].astype(np.float32).ravel())  # to float16 five times as fast as numpy
            columns["pdf"] = flat.cast(pa.type_for_alias(settings.pdf)).to_numpy().reshape(found["pdf"].shape)
        return to_arrow(ResultTable(columns, Provenance(self._plan.model), self._card.grid))
