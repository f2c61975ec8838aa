"""One prediction of any number of galaxies: its parts, a few in flight at a time, collected in order."""

import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from photoz.errors import InvalidImages, PhotozError
from photoz.grid import IntArray
from photoz_client import _requests, _responses
from photoz_client._errors import (
    BadInput,
    FailedRows,
    NotTried,
    PhotozClientError,
    PredictionIncomplete,
    ServiceFailed,
    TooLargeForService,
    UnexpectedResponse,
)
from photoz_client._galaxies import Galaxies, has_signal
from photoz_client._io import Started
from photoz_client._prediction import Prediction, join
from photoz_client._requests import Call
from photoz_client._service import Service

# Failures that may lie in the rows that were sent, so that others are worth a try. All else that a service does (no
# connection, no time, no key) meets the next part as well.
OF_THESE_ROWS = (BadInput, TooLargeForService, ServiceFailed)

# When this many parts in a row have failed it does not lie in the rows: wrong bands, a broken model.
FAILURES_IN_A_ROW = 3

MODEL_CHANGED = "the service changed its model between two requests"

T = TypeVar("T")

Part = tuple[IntArray, Prediction]


def _meets_all(failed: FailedRows) -> bool:
    """Whether the next part would fail in the same way; a file that cannot be read is no error of the service."""
    return isinstance(failed.error, PhotozClientError) and not isinstance(failed.error, OF_THESE_ROWS)


def _failed(rows: Sequence[int], error: Exception) -> FailedRows:
    """Keep an error without the request that its traceback holds: thousands of them would not fit into memory."""
    traceback.clear_frames(error.__traceback__)
    return FailedRows(rows, error)


class _InTurn(Generic[T]):
    """A coroutine that runs when its result is asked for: alone in flight, it needs no thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine

    async def result(self) -> T:
        return await self._coroutine

    async def abandon(self) -> None:
        self._coroutine.close()


@dataclass(frozen=True)
class _Outcome:
    """What became of the rows of one part: predicted, failed, or empty and so left out."""

    n: int
    done: Part | None = None
    failed: FailedRows | None = None
    empty: FailedRows | None = None


class PredictionRun:
    """Sends the parts of one prediction and collects them.

    Parameters
    ----------
    service : Service
        Whom to ask.
    galaxies : Galaxies
        What to send.
    pdf : bool
        Whether to ask for PDFs.
    progress : callable
        Told the number of rows of each part that is done with.
    """

    def __init__(self, service: Service, galaxies: Galaxies, pdf: bool, progress: Callable[[int], object]) -> None:
        self._service = service
        self._galaxies = galaxies
        self._pdf = pdf
        self._progress = progress
        self._to_send: Iterator[range] = galaxies.parts()
        self._in_flight: deque[Started[_Outcome]] = deque()
        self._is_alone = service.in_flight == 1 or not galaxies.takes_parts()
        self._stop = service.io.stop_signal()
        self._failed: list[FailedRows] = []
        self._failures_in_a_row = 0
        self._model: str | None = None
        self._is_new = True

    async def next(self) -> Part | None:
        """Return the next rows that were predicted, by number, and their estimates; None after the last."""
        if self._is_new:
            await self._service.model_name()  # once, before the requests in flight would each ask for it
            self._is_new = False
        self._send()
        while self._in_flight:
            outcome = self._of_one_model(await self._in_flight.popleft().result())
            self._progress(outcome.n)
            self._note_failures(outcome)
            self._send()  # before the caller takes its time over what it gets
            if outcome.done is not None:
                return outcome.done
        return None

    async def close(self) -> None:
        """End what is still in flight."""
        self._stop.set()
        for started in self._in_flight:
            await started.abandon()

    def check(self, done: Sequence[Part] = ()) -> None:
        """Raise if rows failed.

        Parameters
        ----------
        done : sequence of Part
            What the error shall carry: all parts that were returned and not handed to the caller.

        Raises
        ------
        PredictionIncomplete
            If others did not.
        PhotozError, OSError
            The first failure if all did.
        """
        if not self._failed:
            return
        if self._model is None:
            raise self._failed[0].error
        untried = next(self._to_send, None)
        if untried is not None:
            rows = range(untried.start, len(self._galaxies))
            self._failed.append(FailedRows(rows, NotTried("not tried after the failures before")))
        prediction = join([prediction for _, prediction in done]) if done else None
        raise PredictionIncomplete(len(self._galaxies), tuple(self._failed), prediction)

    def _send(self) -> None:
        while len(self._in_flight) < self._service.in_flight and not self._stop.is_set():
            rows = next(self._to_send, None)
            if rows is None:
                return
            outcome = self._outcome(rows)
            self._in_flight.append(_InTurn(outcome) if self._is_alone else self._service.io.start(outcome))

    def _note_failures(self, outcome: _Outcome) -> None:
        self._failed += [rows for rows in (outcome.empty, outcome.failed) if rows is not None]
        if outcome.failed is None:
            self._failures_in_a_row = 0
            return
        self._failures_in_a_row += 1
        if _meets_all(outcome.failed) or self._failures_in_a_row >= FAILURES_IN_A_ROW:
            self._stop.set()

    def _of_one_model(self, outcome: _Outcome) -> _Outcome:
        """Let a part of another model than the first one's fail: rows of two models are not comparable."""
        if outcome.done is None:
            return outcome
        rows, prediction = outcome.done
        if self._model is None:
            self._model = prediction.model
        if prediction.model == self._model:
            return outcome
        message = (
            f"{MODEL_CHANGED}, from {self._model} to {prediction.model}; predict again to have all rows of the same one"
        )
        return replace(outcome, done=None, failed=FailedRows(rows.tolist(), UnexpectedResponse(message)))

    async def _outcome(self, rows: range) -> _Outcome:
        outcome = await self._outcome_of(rows, np.arange(rows.start, rows.stop))
        is_refused = outcome.failed is not None and isinstance(outcome.failed.error, BadInput)
        return await self._mended(rows, outcome) if is_refused and self._galaxies.takes_parts() else outcome

    async def _mended(self, rows: range, refused: _Outcome) -> _Outcome:
        """Send a part that was refused once more, without the cutouts that the service refuses for being empty."""
        try:
            good = await self._service.io.work(lambda: has_signal(self._galaxies.read(rows)))
        except OSError as error:
            return _Outcome(len(rows), failed=_failed(rows, error))
        if good.all():
            return refused
        numbers = np.arange(rows.start, rows.stop)
        no_signal = InvalidImages("no finite pixel; expected some signal in each cutout")
        empty = FailedRows(numbers[~good].tolist(), no_signal)
        if not good.any():
            return _Outcome(len(rows), empty=empty)
        return replace(await self._outcome_of(rows, numbers[good]), empty=empty)

    async def _outcome_of(self, rows: range, numbers: IntArray) -> _Outcome:
        """Send those of the rows of a part that are numbered."""
        read = partial(_responses.prediction, object_id=self._galaxies.names(numbers))
        try:
            prediction = await self._service.ask_model(partial(self._call, rows, numbers), read, self._stop)
            return _Outcome(len(rows), done=(numbers, prediction))
        except (PhotozError, OSError) as error:
            return _Outcome(len(rows), failed=_failed(numbers.tolist(), error))

    def _call(self, rows: range, numbers: IntArray, model: str) -> Call:
        arrays = self._galaxies.read(rows)
        if len(numbers) < len(rows):
            arrays = {name: values[numbers - rows.start] for name, values in arrays.items()}
        return _requests.predict_call(arrays, model, self._pdf, first_row=rows.start)
