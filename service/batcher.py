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

from photoz.images import Batch
from photoz.inference.engines import MAX_BATCH
from service.resources import lower_priority

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
        self._queued = threading.Semaphore(0)  # counts the parts in the queue
        self._engine = threading.Lock()
        for number in range(2):
            threading.Thread(target=self._work, name=f"batcher-{number}", daemon=True).start()

    async def predict(self, batch: Batch, columns: frozenset[str]) -> Columns:
        """Estimate the redshifts of any number of galaxies; return at least these columns, rows in the same order.

        Raises what the model raised for these galaxies, never what it raised for those of another request.
        """
        if len(batch) <= self._max_batch:
            part = _Part(batch, columns, asyncio.get_running_loop().create_future())
            self._queue.append(part)
            self._queued.release()
            return await part.future
        semaphore = asyncio.Semaphore(MAX_QUEUED_PARTS)

        async def predict_part(start: int) -> Columns:
            async with semaphore:
                return await self.predict(batch[start : start + self._max_batch], columns)

        parts = await asyncio.gather(*map(predict_part, range(0, len(batch), self._max_batch)))
        return {name: np.concatenate([part[name] for part in parts]) for name in columns}

    @property
    def queued_rows(self) -> int:
        """How many galaxies wait for the engine."""
        return sum(len(part.batch) for part in list(self._queue))

    def _work(self) -> None:
        lower_priority()
        while True:
            self._run_batch()  # a function, so that its variables are freed before the next batch

    def _run_batch(self) -> None:
        with self._engine:
            parts = self._take_queued()
            batch = Batch.concatenate([part.batch for part in parts])
            output = _outcome(self._run_network, batch)
        columns = frozenset().union(*[part.columns for part in parts])
        outcome = _outcome(self._summarise, batch, output, columns)
        outcomes = [outcome]
        if len(parts) > 1:
            failed = isinstance(outcome, BaseException)
            outcomes = [self._run_alone(part) for part in parts] if failed else _split(parts, outcome)
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller is left
            # In one call for all: each wake-up of the event loop costs as much as a small inference.
            parts[0].future.get_loop().call_soon_threadsafe(_resolve, parts, outcomes)

    def _take_queued(self) -> list[_Part]:
        """Wait until anything is queued, and take as much of it as fits into one batch."""
        parts, n = list[_Part](), 0
        while not parts or (self._queue and n + len(self._queue[0].batch) <= self._max_batch):
            self._queued.acquire()
            part = self._queue.popleft()
            if not part.future.cancelled():  # else the client has gone
                parts.append(part)
                n += len(part.batch)
            del part  # otherwise a cancelled part stays in memory until another arrives
        return parts

    def _run_alone(self, part: _Part) -> Outcome:
        """Run one part by itself, so that an error of another one does not affect it."""
        output = _outcome(self._run_network, part.batch)
        outcome: Outcome = _outcome(self._summarise, part.batch, output, part.columns)
        return outcome


def _split(parts: list[_Part], columns: Columns) -> list[Outcome]:
    stops = itertools.accumulate(len(part.batch) for part in parts)
    rows = [slice(stop - len(part.batch), stop) for part, stop in zip(parts, stops, strict=True)]
    return [{name: columns[name][some] for name in part.columns} for part, some in zip(parts, rows, strict=True)]


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
    for part, outcome in zip(parts, outcomes, strict=True):
        if part.future.cancelled():
            continue
        if isinstance(outcome, BaseException):
            part.future.set_exception(outcome)
        else:
            part.future.set_result(outcome)
