"""Jobs in child processes, which would hold up or endanger the process that predicts."""

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from photoz.processes import process_pool
from service.limits import ConcurrencyLimit

T = TypeVar("T")

LOWER_BY = 10  # nice values: predictions go first


class JobQueue:
    """Runs jobs of one kind in a child process, one at a time.

    Parameters
    ----------
    what : str
        What is counted, for the message to clients that are refused, such as "files are decoded or wait".
    in_all, of_client : int
        Jobs that run or wait, in all and of one client.
    max_tasks : int
        Jobs after which the child is replaced: 1 isolates jobs on untrusted data from each other.
    prepare : callable
        Called in each child before its first job, such as to import what the jobs need.
    """

    def __init__(
        self, what: str, in_all: int, of_client: int, *, max_tasks: int = 1, prepare: Callable[[], object] | None = None
    ) -> None:
        self._queued = ConcurrencyLimit(what, in_all, of_client)
        self._lock = asyncio.Lock()
        self._pool = process_pool(max_tasks=max_tasks, initializer=_start, initargs=(prepare,))

    async def run(self, client: str, timeout: float, function: Callable[..., T], *arguments: object) -> T:
        """Call a function of a module in the child; when this is cancelled, the child is killed.

        Raises
        ------
        TooManyRequests
            If too many jobs wait, of this client or in all.
        TimeoutError
            If it takes longer than `timeout` seconds, without the wait.
        pebble.ProcessExpired
            If the child has died.
        Exception
            What the function raises.
        """
        with self._queued.enter(client):
            async with self._lock:
                return await asyncio.wrap_future(self._pool.schedule(function, arguments, timeout=timeout))


def _start(prepare: Callable[[], object] | None) -> None:
    os.nice(LOWER_BY)
    if prepare is not None:
        prepare()
