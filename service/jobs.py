"""Jobs in child processes, which would hold up or endanger the process that predicts."""

import asyncio
import math
import os
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from http import HTTPStatus
from typing import TypeVar
from weakref import WeakValueDictionary

from pebble import ProcessExpired

from photoz.processes import process_pool
from service.errors import RequestError
from service.request import ConcurrencyLimit

T = TypeVar("T")

NICENESS = 10  # predictions go first


def _begin(prepare: Callable[[], object] | None) -> None:
    os.nice(NICENESS)
    if prepare is not None:
        prepare()


class JobQueue:
    """Runs jobs of one kind in a child process, one at a time, in turns of the clients.

    The limits are those of `ConcurrencyLimit`. The child is replaced after `max_tasks` jobs: 1 isolates jobs on
    untrusted data from each other. It calls `prepare` before its first job; after a job, the next child does so at
    once. A client whose job ended its child or took too long is refused for `penalty` seconds.
    """

    def __init__(
        self,
        what: str,
        in_all: int,
        of_client: int,
        *,
        max_tasks: int = 1,
        penalty: float = 0.0,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self._queued = ConcurrencyLimit(what, in_all, of_client)
        self._lock = asyncio.Lock()
        self._turns = WeakValueDictionary[str, asyncio.Lock]()  # by client: one of its jobs waits for the child
        self._penalty, self._refused_until = penalty, dict[str, float]()
        self._make_pool = partial(process_pool, max_tasks=max_tasks, initializer=_begin, initargs=(prepare,))
        self._pool = self._make_pool()

    async def run(self, client: str, timeout: float, function: Callable[..., T], *arguments: object) -> T:
        """Call a function of a module in the child, which is killed after `timeout` seconds or if this is cancelled.

        Raises `RequestError` (429 or 504), `pebble.ProcessExpired` if the child has died, or what the function raises.
        """
        self._check_penalty(client)
        with self._queued.enter(client):
            turn = self._turns.setdefault(client, asyncio.Lock())
            async with turn:
                self._check_penalty(client)  # only jobs of this client change it, and none of them runs now
                async with self._lock:
                    return await self._run(client, timeout, function, arguments)

    async def _run(self, client: str, timeout: float, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
        if not self._pool.active:  # its child died while it had nothing to do
            self._pool = self._make_pool()
        try:
            return await asyncio.wrap_future(self._pool.schedule(function, arguments, timeout=timeout))
        except TimeoutError as error:
            self._penalise(client)
            message = f"this took longer than {timeout:g} s: send less at a time, or try again later"
            raise RequestError(HTTPStatus.GATEWAY_TIMEOUT, message) from error
        except BrokenProcessPool as error:
            raise ProcessExpired("the child died before it took the job") from error
        except ProcessExpired:
            self._penalise(client)
            raise

    def _penalise(self, client: str) -> None:
        self._refused_until[client] = time.monotonic() + self._penalty

    def _check_penalty(self, client: str) -> None:
        now = time.monotonic()
        self._refused_until = {name: until for name, until in self._refused_until.items() if until > now}
        if client in self._refused_until:
            seconds = math.ceil(self._refused_until[client] - now)
            message = f"what you sent before failed or took too long; try again in {seconds} s"
            raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, message, seconds)
