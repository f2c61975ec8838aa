"""Run work on large bodies in threads, so that the event loop stays free for other requests."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from photoz.errors import PhotozError

# A few cutouts as binary: work on fewer bytes takes less than the 0.1 ms of a switch to a thread and back.
SMALL = 256 * 1024

# Large bodies at a time: what they are decoded into is in memory at once.
THREADS = 4

T = TypeVar("T")

_collector_lock = threading.Lock()
_without_collector = 0


@contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector, which would scan the millions of objects of a JSON body again and again.

    That would take most of the time of decoding and block all threads. Several threads may be inside at once.
    """
    global _without_collector
    with _collector_lock:
        _without_collector += 1
        gc.disable()
    try:
        yield
    finally:
        with _collector_lock:
            _without_collector -= 1
            if not _without_collector:
                gc.enable()


@cache
def _limiter() -> CapacityLimiter:
    return CapacityLimiter(THREADS)


async def offload_if_large(size: int, function: Callable[..., T], *arguments: object) -> T:
    """Call a function, in a thread if it works on more than `SMALL` bytes."""
    return function(*arguments) if size <= SMALL else await offload(function, *arguments)


async def offload(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread; what it raises passes through."""
    outcome = await to_thread.run_sync(_outcome, function, arguments, limiter=_limiter())
    if isinstance(outcome, PhotozError):
        try:
            raise outcome
        finally:
            del outcome  # the error, its traceback and this frame, with the arguments, would refer to each other
    return outcome


def _outcome(function: Callable[..., T], arguments: tuple[object, ...]) -> T | PhotozError:
    """Call a function, and drop the traceback of an expected error.

    The traceback would keep all that was unpacked alive until the garbage collector runs, since anyio's future and the
    frame that waits for it refer to each other.
    """
    try:
        return function(*arguments)
    except PhotozError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
