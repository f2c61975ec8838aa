"""Where the work on one request is done: small bodies at once on the event loop, large ones in a thread beside it."""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

# A cutout or two as binary. Their work takes less time than the way to a thread and back, about 0.1 ms.
SMALL = 256 * 1024

T = TypeVar("T")


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
    return function(*arguments) if size <= SMALL else await to_thread.run_sync(function, *arguments)
