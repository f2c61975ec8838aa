"""The lane to the engine: galaxies of many requests travel together, and no request feels another.

Together they cost the engine less than one by one, so whatever waits when the engine becomes free goes
in as one batch. Nobody waits for company: a request that finds the engine idle goes at once. BentoML's own batching
was weighed and left (docs/decisions.md): in it one bad row fails every request of its batch.

Two threads take turns at the engine: while one has it, the other turns the batch before into estimates.
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

from photoz.inference.batch import Batch, concatenate
from photoz.inference.engines import MAX_BATCH

# Cutouts that go through the engine at a time: all that it takes in one step. More would keep a small request waiting.
ROWS = MAX_BATCH

# How much of one large request is in the lane: enough for both threads and one part ready, so that small requests
# find room between its parts.
PARTS = 3

Columns = Mapping[str, npt.NDArray[Any]]
Infer = Callable[[Batch], Any]
Summarise = Callable[[Batch, Any, frozenset[str]], Columns]
Outcome = Columns | BaseException


@dataclass(frozen=True)
class _Part:
    batch: Batch
    wanted: frozenset[str]
    arrived: "asyncio.Future[Columns]"


class Lane:
    """Takes batches through a model, a few rows at a time, for callers on one event loop.

    Parameters
    ----------
    infer : callable
        From a batch to the network's output; called by two threads at once after a failure alone.
    summarise : callable
        From a batch, its output and the names of the columns that are wanted to these, an element a row; may be called
        while another batch is in `infer`.
    rows : int
        Cutouts that go through at a time.
    """

    def __init__(self, infer: Infer, summarise: Summarise, rows: int = ROWS) -> None:
        self._infer, self._summarise, self._rows = infer, summarise, rows
        self._queue: deque[_Part] = deque()
        self._entry = threading.Condition()
        self._in_engine = False
        for number in range(2):
            threading.Thread(target=self._carry, name=f"lane-{number}", daemon=True).start()

    async def columns(self, batch: Batch, wanted: frozenset[str]) -> Columns:
        """Estimate the redshifts of any number of galaxies.

        Parameters
        ----------
        batch : Batch
            n galaxies that passed the border check; their names are not looked at.
        wanted : frozenset of str
            Which columns.

        Returns
        -------
        mapping of str to (n, ...) ndarray
            These and perhaps others, rows in the same order.

        Raises
        ------
        Exception
            What the model raised for these galaxies; never what it raised for another request's.
        """
        if len(batch) <= self._rows:
            return await self._enter(batch, wanted)
        room = asyncio.Semaphore(PARTS)

        async def travel(start: int) -> Columns:
            async with room:
                return await self._enter(batch[start : start + self._rows], wanted)

        parts = await asyncio.gather(*map(travel, range(0, len(batch), self._rows)))
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    @property
    def waiting(self) -> int:
        """How many cutouts wait for the engine."""
        with self._entry:
            return sum(len(part.batch) for part in self._queue)

    def _enter(self, batch: Batch, wanted: frozenset[str]) -> "asyncio.Future[Columns]":
        part = _Part(batch, wanted, asyncio.get_running_loop().create_future())
        with self._entry:
            self._queue.append(part)
            self._wake()
        return part.arrived

    def _carry(self) -> None:
        while True:
            parts = self._board()
            batch = concatenate([part.batch for part in parts])
            output = _outcome(self._infer, batch)
            self._leave()
            wanted = frozenset().union(*(part.wanted for part in parts))
            _arrive(parts, self._split(parts, _outcome(self._summarise, batch, output, wanted)))

    def _board(self) -> list[_Part]:
        """Wait until the engine is free and anything waits, and take as much of it as goes through at a time."""
        with self._entry:
            while True:
                self._entry.wait_for(self._is_time)
                parts, n = [], 0
                while self._queue and (not parts or n + len(self._queue[0].batch) <= self._rows):
                    part = self._queue.popleft()
                    if not part.arrived.cancelled():  # else its caller has gone
                        parts.append(part)
                        n += len(part.batch)
                if parts:
                    self._in_engine = True
                    return parts

    def _leave(self) -> None:
        with self._entry:
            self._in_engine = False
            self._wake()

    def _is_time(self) -> bool:
        return bool(self._queue) and not self._in_engine

    def _wake(self) -> None:
        if self._is_time():
            self._entry.notify()

    def _split(self, parts: list[_Part], columns: Outcome) -> list[Outcome]:
        if len(parts) == 1:
            return [columns]
        if isinstance(columns, BaseException):
            return [self._alone(part) for part in parts]
        stops = itertools.accumulate(len(part.batch) for part in parts)
        rows = [slice(stop - len(part.batch), stop) for part, stop in zip(parts, stops, strict=True)]
        return [{name: columns[name][some] for name in part.wanted} for part, some in zip(parts, rows, strict=True)]

    def _alone(self, part: _Part) -> Outcome:
        """Try one part by itself, so that what is wrong with another is not its own."""
        return _outcome(self._summarise, part.batch, _outcome(self._infer, part.batch), part.wanted)


def _outcome(step: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a step returns or raises; what the step before raised passes through."""
    for argument in arguments:
        if isinstance(argument, BaseException):
            return argument
    try:
        return step(*arguments)
    except BaseException as error:  # the thread goes on whatever it was: the caller is told
        return error


def _arrive(parts: list[_Part], outcomes: list[Outcome]) -> None:
    """Tell all callers at once: each waking of their event loop costs as much as a small inference."""

    def tell() -> None:
        for part, outcome in zip(parts, outcomes, strict=True):
            if part.arrived.cancelled():
                continue
            if isinstance(outcome, BaseException):
                part.arrived.set_exception(outcome)
            else:
                part.arrived.set_result(outcome)

    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left to be told
        parts[0].arrived.get_loop().call_soon_threadsafe(tell)
