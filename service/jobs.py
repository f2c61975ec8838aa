"""Jobs in child processes, which would hold up or endanger the process that predicts."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from pebble import ProcessExpired

from photoz.processes import process_pool
from service.errors import RequestError
from service.limits import ConcurrencyLimit

T = TypeVar("T")

NICENESS = 10  # predictions go first


class JobQueue:
    """Runs jobs of one kind in a child process, one at a time; the limits are those of `ConcurrencyLimit`.

    The child is replaced after `max_tasks` jobs: 1 isolates jobs on untrusted data from each other.
    """

    def __init__(self, what: str, in_all: int, of_client: int, *, max_tasks: int = 1) -> None:
        self._queued = ConcurrencyLimit(what, in_all, of_client)
        self._lock = asyncio.Lock()
        self._make_pool = partial(process_pool, max_tasks=max_tasks, initializer=os.nice, initargs=(NICENESS,))
        self._pool = self._make_pool()

    async def run(self, client: str, timeout: float, function: Callable[..., T], *arguments: object) -> T:
        """Call a function of a module in the child, which is killed after `timeout` seconds or if this is cancelled.

        Raises `RequestError` (429 or 504), `pebble.ProcessExpired` if the child has died, or what the function raises.
        """
        with self._queued.enter(client):
            async with self._lock:
                if not self._pool.active:  # its child died while it had nothing to do
                    self._pool = self._make_pool()
                try:
                    return await asyncio.wrap_future(self._pool.schedule(function, arguments, timeout=timeout))
                except TimeoutError as error:
                    message = f"this took longer than {timeout:g} s: send less at a time, or try again later"
                    raise RequestError(HTTPStatus.GATEWAY_TIMEOUT, message) from error
                except BrokenProcessPool as error:
                    raise ProcessExpired("the child died before it took the job") from error
