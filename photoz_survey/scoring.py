"""Score chunks of cutouts: the same function on one machine and on a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from photoz import pdf
from photoz.errors import InvalidInput, PhotozError, reason
from photoz.estimates import COLUMNS
from photoz.images import as_ebv_batch, as_image_batch
from photoz.inference.batch import Batch
from photoz.inference.predictor import Predictor
from photoz.io.cutouts import Cutouts
from photoz.io.layout import conform
from photoz.io.parquet_table import to_arrow
from photoz.io.reader import open_cutouts
from photoz.io.tables import PASSED_COLUMNS, ResultTable, quantile_name
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk, Segment, has_changed
from photoz_survey.manifest import Plan
from photoz_survey.storage import local_copy

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]

# Rows that are read and predicted at a time.
BATCH = 256

OVERFLOW = "the pixel values overflow the network: mask such pixels with NaN"


@dataclass(frozen=True)
class _Rows:
    """Some rows of files: their pixels and columns, of which `file`, `row` and `object_id` say which they are."""

    columns: dict[str, Array]  # (m,) each
    ebv: Array  # (m,)
    images: Array  # (m, size, size, n_bands)

    def __len__(self) -> int:
        return len(self.images)

    def only(self, which: Array) -> "_Rows":
        """Return the rows for which `which`, (m,) bool, is true."""
        return _Rows(
            {name: values[which] for name, values in self.columns.items()}, self.ebv[which], self.images[which]
        )


def _joined(parts: Sequence[_Rows]) -> _Rows:
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    ebv, images = [part.ebv for part in parts], [part.images for part in parts]
    return _Rows(columns, np.concatenate(ebv), np.concatenate(images))


@dataclass(frozen=True)
class Scored:
    """What came of a chunk: tables of the rows with estimates, and the rows that were rejected, with the reason."""

    done: list["pa.Table"] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, file: str, row: int | None, object_id: str, why: str) -> None:
        """Note a row without an estimate; None stands for all rows of a file that cannot be read."""
        self.rejected.append({"file": file, "row": row, "object_id": object_id, "reason": why})

    def reject_rows(self, rows: _Rows, reasons: Sequence[str]) -> None:
        """Note rows without an estimate; those whose reason is empty have one."""
        names = (rows.columns[name].tolist() for name in ("file", "row", "object_id"))
        for file, row, object_id, why in zip(*names, reasons, strict=True):
            if why:
                self.reject(file, row, object_id, why)


class Scorer:
    """Scores chunks of the files of a plan with a model, whose network runs on one thread.

    Raises `InvalidInput` if the bundle is not that of the plan.
    """

    def __init__(self, plan: Plan, bundle: ModelBundle) -> None:
        if bundle.card.digest != plan.digest:
            raise InvalidInput(f"expected the bundle of {plan.model}, got another one at {bundle.path}")
        self._plan, self._card = plan, bundle.card
        self._predictor = Predictor.load(bundle, engine=plan.engine)

    def score(self, chunk: Chunk) -> Scored:
        """Score the rows of a chunk; each of them is in the result once.

        Raises `InvalidInput` if a file has changed since the plan was made, `OSError` if it cannot be fetched.
        """
        scored, waiting = Scored(), list[_Rows]()
        for segment in chunk.segments:
            for rows in self._read(segment, scored):
                waiting.append(rows)
                if sum(map(len, waiting)) >= BATCH:
                    self._predict(_joined(waiting), scored)
                    waiting = []
        if waiting:
            self._predict(_joined(waiting), scored)
        if not scored.done:
            scored.done.append(self._empty())
        return scored

    def _read(self, segment: Segment, scored: Scored) -> Iterator[_Rows]:
        file = self._plan.inputs[segment.file]
        if file.error:
            scored.reject(file.path, None, "", file.error)
            return
        with local_copy(file.path) as path, ExitStack() as stack:
            if has_changed(file):  # also while it was copied
                raise InvalidInput(f"{file.path} has changed since the run was begun")
            try:
                cutouts = self._conformed(stack.enter_context(open_cutouts(path)))
            except PhotozError as error:
                rows = [None] if segment.last is None else list(range(segment.first, segment.last))
                for row in rows:
                    scored.reject(file.path, row, "" if row is None else str(row), str(error))
                return
            last = len(cutouts) if segment.last is None else segment.last
            for first in range(segment.first, last, BATCH):
                yield from self._read_rows(cutouts, file.path, slice(first, min(first + BATCH, last)), scored)

    def _conformed(self, opened: Cutouts) -> Cutouts:
        settings = self._plan.settings
        cutouts, _ = conform(opened, self._card.image, settings.bands, settings.zero_point)
        for name in settings.columns:
            cutouts.column(name)  # raises if it is missing
        return cutouts

    def _read_rows(self, cutouts: Cutouts, file: str, rows: slice, scored: Scored) -> Iterator[_Rows]:
        """Yield rows with their columns; those whose pixels cannot be read are rejected."""
        try:
            images = np.asarray(cutouts.images[rows])
        except (PhotozError, OSError, ValueError, RuntimeError) as error:  # h5py raises any of them
            if rows.stop - rows.start > 1:
                for row in range(rows.start, rows.stop):
                    yield from self._read_rows(cutouts, file, slice(row, row + 1), scored)
            else:
                scored.reject(file, rows.start, str(_names(cutouts, rows)[0]), f"it cannot be read: {reason(error)}")
            return
        n, found = rows.stop - rows.start, cutouts.columns
        columns = {
            "file": np.full(n, file),
            "row": np.arange(rows.start, rows.stop),
            "object_id": _names(cutouts, rows),
        }
        columns |= {
            name: np.asarray(found.get(name, np.full(rows.stop, np.nan))[rows], float) for name in PASSED_COLUMNS
        }
        columns |= {name: found[name][rows] for name in self._plan.settings.columns}
        ebv = np.full(n, np.nan if self._plan.settings.ebv is None else self._plan.settings.ebv)
        if self._plan.settings.ebv is None and "ebv" in found:
            ebv = found["ebv"][rows]
        yield _Rows(columns, ebv, images)

    def _predict(self, rows: _Rows, scored: Scored) -> None:
        batch, rows = self._validated(rows, scored)
        if batch is None:
            return
        found = self._predictor.summarise(batch, self._predictor.run_network(batch))
        good = np.isfinite(found["pdf"][:, 0])
        if not good.all():
            scored.reject_rows(rows, np.where(good, "", OVERFLOW).tolist())
            found, rows = {name: values[good] for name, values in found.items()}, rows.only(good)
        scored.done.append(self._table(rows, found))

    def _validated(self, rows: _Rows, scored: Scored) -> tuple[Batch | None, _Rows]:
        """Return the rows that can be predicted; the others are rejected."""
        try:
            return self._batch(rows), rows
        except InvalidInput:
            reasons = [self._refusal(rows.only(np.arange(len(rows)) == row)) for row in range(len(rows))]
            scored.reject_rows(rows, reasons)
            rows = rows.only(np.array([not why for why in reasons]))
            return self._batch(rows) if len(rows) else None, rows

    def _batch(self, rows: _Rows) -> Batch:
        ebv = as_ebv_batch(rows.ebv, len(rows), self._card.inputs.ebv_default)
        return Batch(as_image_batch(rows.images, self._card.image), ebv)

    def _refusal(self, row: _Rows) -> str:
        """Return why a single row cannot be predicted; empty if it can be."""
        try:
            self._batch(row)
        except InvalidInput as error:
            return str(error).replace("cutout 0", "the cutout")
        return ""

    def _empty(self) -> "pa.Table":
        """Return a table without rows."""
        nothing, text = np.empty(0), np.empty(0, np.str_)
        names: dict[str, Array] = {"file": text, "row": np.empty(0, np.int64), "object_id": text}
        names |= dict.fromkeys((*PASSED_COLUMNS, *self._plan.settings.columns), nothing)
        found: dict[str, Array] = dict.fromkeys(COLUMNS, nothing)
        found |= {"flags": np.empty(0, np.int32), "pdf": np.empty((0, self._card.grid.n_bins))}
        return self._table(_Rows(names, nothing, nothing), found)

    def _table(self, rows: _Rows, found: dict[str, Array]) -> "pa.Table":
        settings = self._plan.settings
        pdfs = found.pop("pdf")
        columns = rows.columns | {name: found[name] for name in COLUMNS if name != "object_id"}
        columns |= {quantile_name(q): pdf.quantile(pdfs, self._card.grid, q) for q in settings.quantiles}
        if settings.pdf is not None:
            columns["pdf"] = pdfs.astype(settings.pdf)
        return to_arrow(ResultTable(columns, self._plan.model, self._card.grid))


def _names(cutouts: Cutouts, rows: slice) -> Array:
    """Return the names of cutouts, their rows where the file has none."""
    names = cutouts.columns.get("object_id")
    return (np.arange(rows.start, rows.stop) if names is None else names[rows]).astype(np.str_)
