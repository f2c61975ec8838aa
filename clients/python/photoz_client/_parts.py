"""Predict any number of galaxies in parts: a few requests in flight at a time, results in order."""

import traceback
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from photoz.errors import InvalidImages, InvalidInput, PhotozError
from photoz.grid import IntArray
from photoz_client._connection import Connection
from photoz_client._errors import (
    BadInput,
    NotTried,
    PhotozClientError,
    ServiceFailed,
    TooLargeForService,
    UnexpectedResponse,
)
from photoz_client._inputs import Arrays, PredictInputs, has_finite_pixel
from photoz_client._prediction import FailedRows, Prediction, PredictionIncomplete
from photoz_client._progress import Progress, progress_bar

# Failures that the rows of the request may have caused, so that other rows may succeed. Any other failure of the
# service (no connection, timeout, no key) would meet the next part as well.
ROW_ERRORS = (BadInput, TooLargeForService, ServiceFailed)

# After this many consecutive failed parts, the rows are not the cause: wrong bands, a broken model.
MAX_CONSECUTIVE_FAILURES = 3

MODEL_CHANGED = "the service changed its model between two requests"

# Row numbers, (m,), and their estimates.
Part = tuple[IntArray, Prediction]


@dataclass(frozen=True)
class _Outcome:
    """What happened to the n rows of one part: predicted, failed, or left out because they have no finite pixel."""

    n: int
    part: Part | None = None
    failed: FailedRows | None = None
    empty: FailedRows | None = None


class PredictionParts:
    """Sends the parts of one prediction and collects the results; see `Operations.predict`."""

    def __init__(self, connection: Connection, inputs: PredictInputs, pdf: bool, progress: Progress) -> None:
        self._connection = connection
        self._inputs = inputs
        self._pdf = pdf
        self._progress = progress
        self._unsent: Iterator[range] = inputs.parts()
        self._in_flight: deque[Awaitable[_Outcome]] = deque()
        # Without concurrency the caller itself sends the requests, without tasks or threads.
        is_sequential = connection.in_flight == 1 or not inputs.needs_several_requests()
        self._max_tasks = 0 if is_sequential else connection.in_flight
        self._stop = connection.backend.event()
        self._failed: list[FailedRows] = []
        self._consecutive_failures = 0
        self._model: str | None = None

    async def stream(self) -> AsyncGenerator[Part, None]:
        """Yield the numbers of the predicted rows and their estimates, in order.

        Raises, at the end, the first failure if all rows failed, or `PredictionIncomplete` if some did.
        """
        try:
            await self._connection.model_name()  # once, before several requests would each ask for it
            with progress_bar(self._progress, len(self._inputs)) as update:
                self._start_tasks()
                while (outcome := await self._next_outcome()) is not None:
                    outcome = self._check_model(outcome)
                    update(outcome.n)
                    self._note_failures(outcome)
                    self._start_tasks()  # before the caller spends time on this part
                    if outcome.part is not None:
                        yield outcome.part
        finally:
            self._stop.set()
            for task in self._in_flight:
                await self._connection.backend.abandon(task)
        if self._failed:
            raise self._failure()

    def _failure(self) -> Exception:
        if self._model is None:
            return self._failed[0].error
        if (unsent := next(self._unsent, None)) is not None:
            rows = range(unsent.start, len(self._inputs))
            self._failed.append(FailedRows(rows, NotTried("not tried because earlier rows failed")))
        return PredictionIncomplete(len(self._inputs), tuple(self._failed))

    def _start_tasks(self) -> None:
        while len(self._in_flight) < self._max_tasks and (part := self._take_part()) is not None:
            self._in_flight.append(self._connection.backend.start_task(self._predict_part(part)))

    def _take_part(self) -> range | None:
        return None if self._stop.is_set() else next(self._unsent, None)

    async def _next_outcome(self) -> _Outcome | None:
        if self._in_flight:
            return await self._in_flight.popleft()
        part = self._take_part()
        return None if part is None else await self._predict_part(part)

    def _note_failures(self, outcome: _Outcome) -> None:
        self._failed += [rows for rows in (outcome.empty, outcome.failed) if rows is not None]
        if outcome.failed is None:
            self._consecutive_failures = 0
            return
        self._consecutive_failures += 1
        error = outcome.failed.error  # an unreadable file is not a failure of the service
        affects_all = isinstance(error, PhotozClientError) and not isinstance(error, ROW_ERRORS)
        if affects_all or self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            self._stop.set()

    def _check_model(self, outcome: _Outcome) -> _Outcome:
        """Fail a part if its model is not that of the first part: rows of two models are not comparable."""
        if outcome.part is None:
            return outcome
        rows, prediction = outcome.part
        if self._model is None:
            self._model = prediction.model
        if prediction.model == self._model:
            return outcome
        message = f"{MODEL_CHANGED}, from {self._model} to {prediction.model}; predict again to use one model for all"
        return replace(outcome, part=None, failed=FailedRows(rows.tolist(), UnexpectedResponse(message)))

    async def _predict_part(self, part: range) -> _Outcome:
        rows = np.arange(part.start, part.stop)
        outcome = await self._predict_rows(part, rows)
        is_bad_input = outcome.failed is not None and isinstance(outcome.failed.error, InvalidInput)
        if not is_bad_input or len(part) < 2:
            return outcome
        # The whole part is refused if one cutout has no finite pixel: send the others again.
        try:
            good = await self._connection.backend.offload(lambda: has_finite_pixel(self._inputs.read(part)))
        except (PhotozError, OSError) as error:
            return _Outcome(len(part), failed=_failed_rows(rows, error))
        if good.all() or not (good.any() or self._inputs.needs_several_requests()):
            return outcome
        no_pixel = InvalidImages("no finite pixel; expected at least one in each cutout")
        empty = FailedRows(rows[~good].tolist(), no_pixel)
        if not good.any():
            return _Outcome(len(part), empty=empty)
        return replace(await self._predict_rows(part, rows[good]), empty=empty)

    async def _predict_rows(self, part: range, rows: IntArray) -> _Outcome:
        """Predict some rows (m,) of a part."""
        read, names = partial(self._read, part, rows), self._inputs.names(rows)
        try:
            prediction = await self._connection.predict(read, names, self._pdf, part.start, self._stop)
            return _Outcome(len(part), part=(rows, prediction))
        except (PhotozError, OSError) as error:
            return _Outcome(len(part), failed=_failed_rows(rows, error))

    def _read(self, part: range, rows: IntArray) -> Arrays:
        arrays = self._inputs.read(part)
        return arrays if len(rows) == len(part) else {name: some[rows - part.start] for name, some in arrays.items()}


def _failed_rows(rows: IntArray, error: Exception) -> FailedRows:
    """Remove the request from the error's traceback: the requests of many failures would not fit into memory."""
    traceback.clear_frames(error.__traceback__)
    return FailedRows(rows.tolist(), error)
