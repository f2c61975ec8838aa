"""Call a function on many items, in processes of which any may be killed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from photoz.errors import PhotozError

T = TypeVar("T")

# Items that wait for each process, so that none is idle.
QUEUED = 2

# Processes that may die in a row, before an item is done.
MAX_DEATHS = 3


class WorkerDied(PhotozError):
    """Processes that died again and again."""


def run_in_processes(
    make_pool: Callable[[], ProcessPoolExecutor], function: Callable[[T], object], items: Sequence[T], workers: int
) -> Iterator[T]:
    """Call `function` on each item in a pool of so many workers; yields each item when it is done.

    If a process is killed, another pool goes on with the items that are not done. Raises `WorkerDied` if that happens
    again and again, and what the function raises.
    """
    waiting, deaths = list(reversed(items)), 0
    while waiting:
        running: dict[Future[object], T] = {}
        pool = make_pool()
        try:
            while waiting or running:
                while waiting and len(running) < (1 + QUEUED) * workers:
                    future = pool.submit(function, waiting[-1])  # raises if a process has died: the item still waits
                    running[future] = waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    deaths = 0
                    yield running.pop(future)
        except BrokenProcessPool as error:
            deaths += 1
            if deaths == MAX_DEATHS:
                raise WorkerDied("processes were killed again and again, perhaps for lack of memory") from error
            waiting += reversed(running.values())
        finally:
            pool.shutdown(cancel_futures=True)  # what runs is finished
