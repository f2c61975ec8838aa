"""Where the work on one request is done: small bodies at once on the event loop, large ones in a thread beside it."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from photoz.errors import PhotozError

# A cutout or two as binary. Their work takes less time than the way to a thread and back, about 0.1 ms.
SMALL = 256 * 1024

# How many large bodies are worked on at a time: what they become while they are decoded is in memory at once.
THREADS = 4

T = TypeVar("T")


_collector_lock = threading.Lock()
_without_collector = 0


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector from looking through the millions of objects that JSON becomes, again and again.

    It would take most of the time that reading them takes, and hold everybody up. Other threads may be inside too.
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


async def run(size: int, function: Callable[..., T], *arguments: object) -> T:
    """Call a function, in a thread if what it works on is large.

    Parameters
    ----------
    size : int
        Bytes that it works on.
    function : callable
        What is called.
    *arguments
        With what.

    Returns
    -------
    object
        What it returns; what it raises passes through.
    """
    return function(*arguments) if size <= SMALL else await in_thread(function, *arguments)


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread; what it raises passes through."""
    outcome = await to_thread.run_sync(_outcome, function, arguments, limiter=_limiter())
    if isinstance(outcome, PhotozError):
        raise outcome
    return outcome


def _outcome(function: Callable[..., T], arguments: tuple[object, ...]) -> T | PhotozError:
    """Call a function, and keep nothing of how it came to an error that tells all by its message.

    The trace would hold all that was unpacked, and, as anyio's future and the frame that waits for it hold each other,
    until the garbage collector comes.
    """
    try:
        return function(*arguments)
    except PhotozError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
