"""The lanes to the engine: galaxies of many requests travel together, and no request feels another.

Together they cost the engine less than one by one, so whatever waits when a lane becomes free goes in as one batch.
Nobody waits for company: a request that finds a lane free goes at once. BentoML's own batching was weighed and left
(docs/decisions.md): in it one bad row fails every request of its batch.

There is a lane for each thread of the engine, and at least two, so that one can turn its batch into estimates while
the other is in the engine.
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

from service.batch import Batch, join

# Cutouts that go through a lane at a time. More are no faster, cost memory, and keep a small request waiting.
ROWS = 32

Columns = Mapping[str, npt.NDArray[Any]]
Infer = Callable[[Batch, bool], Any]
Summarise = Callable[[Batch, Any, frozenset[str]], Columns]
Outcome = Columns | BaseException


@dataclass(frozen=True)
class _Part:
    batch: Batch
    wanted: frozenset[str]
    arrived: "asyncio.Future[Columns]"


class Lanes:
    """Take batches through a model, a few rows at a time, for callers on one event loop.

    Parameters
    ----------
    infer : callable
        From a batch, and whether it is the only one, to the network's output; called by several threads at once.
    summarise : callable
        From a batch, its output and the names of the columns that are wanted to these, an element a row; likewise.
    threads : int
        Of the engine.
    rows : int
        Cutouts that go through at a time.
    """

    def __init__(self, infer: Infer, summarise: Summarise, threads: int, rows: int = ROWS) -> None:
        self._infer, self._summarise, self._rows = infer, summarise, rows
        self._n = max(threads, 2)
        self._queue: deque[_Part] = deque()
        self._entry = threading.Condition()
        self._in_engine = 0  # batches
        for number in range(self._n):
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
        # One part more than lanes is ready, so that none waits, and small requests find room between the parts.
        room = asyncio.Semaphore(self._n + 1)

        async def travel(part: Batch) -> Columns:
            async with room:
                return await self._enter(part, wanted)

        parts = await asyncio.gather(*map(travel, self._divided(batch)))
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    def _divided(self, batch: Batch) -> list[Batch]:
        """Cut a batch into parts of about the same length, as many for each lane."""
        rounds = -(-len(batch) // (self._rows * self._n))
        edges = np.linspace(0, len(batch), rounds * self._n + 1).astype(int)
        return [batch[start:stop] for start, stop in itertools.pairwise(edges) if stop > start]

    def _enter(self, batch: Batch, wanted: frozenset[str]) -> "asyncio.Future[Columns]":
        part = _Part(batch, wanted, asyncio.get_running_loop().create_future())
        with self._entry:
            self._queue.append(part)
            self._wake()
        return part.arrived

    def _carry(self) -> None:
        while True:
            parts, alone = self._board()
            batch = join([part.batch for part in parts])
            output = _outcome(self._infer, batch, alone)
            self._leave()
            wanted = frozenset().union(*(part.wanted for part in parts))
            _arrive(parts, self._split(parts, _summary(self._summarise, batch, output, wanted)))

    def _board(self) -> tuple[list[_Part], bool]:
        """Wait until it is time, take as much as goes through at a time, and tell if nothing else is there."""
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
                    alone = not self._in_engine and not self._queue
                    self._in_engine += 1
                    return parts, alone

    def _leave(self) -> None:
        with self._entry:
            self._in_engine -= 1
            self._wake()

    def _is_time(self) -> bool:
        """Whether a batch may set out: at once if the engine is idle, beside another only if it is full.

        Smaller ones beside each other are more batches, and Python has the same work with each: with 32 clients of
        single cutouts a quarter fewer would come through.
        """
        if not self._in_engine:
            return bool(self._queue)
        return sum(len(part.batch) for part in self._queue) >= self._rows

    def _wake(self) -> None:
        if self._is_time():
            self._entry.notify()

    def _split(self, parts: list[_Part], columns: Outcome) -> list[Outcome]:
        if len(parts) == 1:
            return [columns]
        if isinstance(columns, BaseException):
            return [self._by_itself(part) for part in parts]
        stops = itertools.accumulate(len(part.batch) for part in parts)
        rows = [slice(stop - len(part.batch), stop) for part, stop in zip(parts, stops, strict=True)]
        return [{name: columns[name][some] for name in part.wanted} for part, some in zip(parts, rows, strict=True)]

    def _by_itself(self, part: _Part) -> Outcome:
        """Try one part once more, so that what is wrong with another is not its own."""
        return _summary(self._summarise, part.batch, _outcome(self._infer, part.batch, False), part.wanted)


def _summary(summarise: Summarise, batch: Batch, output: Any, wanted: frozenset[str]) -> Outcome:
    """Summarise an output; what the engine raised in place of one passes through."""
    return output if isinstance(output, BaseException) else _outcome(summarise, batch, output, wanted)


def _outcome(step: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a step returns or raises."""
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
