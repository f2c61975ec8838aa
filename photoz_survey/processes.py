"""Call a function on many items in child processes, any of which may be killed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from pebble import ProcessExpired

from photoz.errors import PhotozError
from photoz.processes import process_pool

T = TypeVar("T")

# Deaths in a row, without an item done between them, after which the run fails.
MAX_DEATHS = 3


class WorkerDied(PhotozError):
    """Processes died again and again."""


def run_in_processes(
    function: Callable[[T], object],
    items: Sequence[T],
    n_processes: int,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[T]:
    """Call `function` on each item in child processes; yields each item when it is done.

    If a process is killed, a new pool continues with the items that are not done. `initializer` is called in each
    process with `initargs`. Raises `WorkerDied` if processes are killed again and again, and what the function raises;
    items that other processes work on are then finished.
    """
    waiting, deaths = list(reversed(items)), 0
    while waiting:
        running: dict[Future[object], T] = {}
        pool = process_pool(n_processes, initializer=initializer, initargs=initargs)
        try:
            while waiting or running:
                while waiting and len(running) < n_processes:
                    if not pool.active:
                        raise BrokenProcessPool("a process died while it was idle")
                    running[pool.schedule(function, (waiting[-1],))] = waiting[-1]
                    waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    deaths = 0
                    yield running.pop(future)
        except (ProcessExpired, BrokenProcessPool) as error:
            pool.stop()
            deaths += 1
            if deaths == MAX_DEATHS:
                raise WorkerDied("processes were killed again and again, perhaps for lack of memory") from error
            waiting += reversed(running.values())
        finally:
            pool.close()
            pool.join()
