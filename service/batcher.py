"""Dynamic batching in front of the Predictor.

Galaxies of several requests cost the engine less together than one by one, so whatever waits when the engine becomes
free forms one batch. A request that finds the engine idle starts at once: the batcher never waits to fill a batch.
BentoML's own batching was considered and rejected (docs/decisions.md): one bad row fails every request of its batch.

Two threads alternate: while one runs the network, the other turns the previous batch into estimates.
"""

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.inference.engines import MAX_BATCH
from photoz.inference.predictor import Batch, concatenate
from service.operations.resources import lower_priority

# Parts of one large request that are queued: enough for both threads and one in reserve, so that small requests are
# batched between its parts.
MAX_QUEUED_PARTS = 3

Columns = Mapping[str, npt.NDArray[Any]]
RunNetwork = Callable[[Batch], Any]
Summarise = Callable[[Batch, Any, frozenset[str]], Columns]
Outcome = Columns | BaseException


@dataclass(frozen=True)
class _Part:
    """At most `MAX_BATCH` galaxies of one request, and the future of their estimates."""

    batch: Batch
    columns: frozenset[str]
    future: "asyncio.Future[Columns]"


class DynamicBatcher:
    """Runs a model on batches of any size, for callers on one event loop.

    `run_network` gets a batch, one at a time except after a failure; `summarise` gets a batch, its output and the
    columns that are needed, perhaps while the next batch is in `run_network`.
    """

    def __init__(self, run_network: RunNetwork, summarise: Summarise, max_batch: int = MAX_BATCH) -> None:
        self._run_network, self._summarise, self._max_batch = run_network, summarise, max_batch
        self._queue: deque[_Part] = deque()
        self._condition = threading.Condition()
        self._engine_busy = False
        for number in range(2):
            threading.Thread(target=self._worker, name=f"batcher-{number}", daemon=True).start()

    async def predict(self, batch: Batch, columns: frozenset[str]) -> Columns:
        """Estimate the redshifts of any number of galaxies.

        Parameters
        ----------
        batch : Batch
            n validated galaxies; their names are ignored.
        columns : frozenset of str
            Columns to compute.

        Returns
        -------
        mapping of str to (n, ...) ndarray
            These and perhaps others, rows in the same order.

        Raises
        ------
        Exception
            What the model raised for these galaxies; never what it raised for those of another request.
        """
        if len(batch) <= self._max_batch:
            return await self._submit(batch, columns)
        semaphore = asyncio.Semaphore(MAX_QUEUED_PARTS)

        async def predict_part(start: int) -> Columns:
            async with semaphore:
                return await self._submit(batch[start : start + self._max_batch], columns)

        parts = await asyncio.gather(*map(predict_part, range(0, len(batch), self._max_batch)))
        return {name: np.concatenate([part[name] for part in parts]) for name in columns}

    @property
    def queued_rows(self) -> int:
        """How many galaxies wait for the engine."""
        with self._condition:
            return sum(len(part.batch) for part in self._queue)

    def _submit(self, batch: Batch, columns: frozenset[str]) -> "asyncio.Future[Columns]":
        part = _Part(batch, columns, asyncio.get_running_loop().create_future())
        with self._condition:
            self._queue.append(part)
            self._notify()
        return part.future

    def _worker(self) -> None:
        lower_priority()
        while True:
            self._run_batch(self._take_batch())  # in a function, so that nothing of it is held until the next

    def _run_batch(self, parts: list[_Part]) -> None:
        batch = concatenate([part.batch for part in parts])
        output = _outcome(self._run_network, batch)
        self._release_engine()
        columns = frozenset().union(*(part.columns for part in parts))
        _resolve(parts, self._split(parts, _outcome(self._summarise, batch, output, columns)))

    def _take_batch(self) -> list[_Part]:
        """Wait until the engine is free and anything is queued, and take as much of it as fits into one batch."""
        with self._condition:
            while True:
                self._condition.wait_for(self._can_start)
                if parts := self._take_queued():  # in a function, so that nothing of it is held while this waits
                    self._engine_busy = True
                    return parts

    def _take_queued(self) -> list[_Part]:
        parts, n = list[_Part](), 0
        while self._queue and (not parts or n + len(self._queue[0].batch) <= self._max_batch):
            part = self._queue.popleft()
            if not part.future.cancelled():  # else the client has gone
                parts.append(part)
                n += len(part.batch)
        return parts

    def _release_engine(self) -> None:
        with self._condition:
            self._engine_busy = False
            self._notify()

    def _can_start(self) -> bool:
        return bool(self._queue) and not self._engine_busy

    def _notify(self) -> None:
        if self._can_start():
            self._condition.notify()

    def _split(self, parts: list[_Part], columns: Outcome) -> list[Outcome]:
        if len(parts) == 1:
            return [columns]
        if isinstance(columns, BaseException):
            return [self._alone(part) for part in parts]
        stops = itertools.accumulate(len(part.batch) for part in parts)
        rows = [slice(stop - len(part.batch), stop) for part, stop in zip(parts, stops, strict=True)]
        return [{name: columns[name][some] for name in part.columns} for part, some in zip(parts, rows, strict=True)]

    def _alone(self, part: _Part) -> Outcome:
        """Run one part by itself, so that an error of another one does not affect it."""
        return _outcome(self._summarise, part.batch, _outcome(self._run_network, part.batch), part.columns)


def _outcome(step: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a step returns or raises; an error of the step before passes through."""
    for argument in arguments:
        if isinstance(argument, BaseException):
            return argument
    try:
        return step(*arguments)
    except BaseException as error:  # the thread has to go on; the caller gets the error
        return error


def _resolve(parts: list[_Part], outcomes: list[Outcome]) -> None:
    """Resolve all futures in one call: each wake-up of the event loop costs as much as a small inference."""

    def resolve() -> None:
        for part, outcome in zip(parts, outcomes, strict=True):
            if part.future.cancelled():
                continue
            if isinstance(outcome, BaseException):
                part.future.set_exception(outcome)
            else:
                part.future.set_result(outcome)

    with contextlib.suppress(RuntimeError):  # the loop is closed: no caller is left
        parts[0].future.get_loop().call_soon_threadsafe(resolve)
