"""The steps of a request: traced where a collector is set, and in a thread, off the event loop, if they are large."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from photoz.errors import PhotozError
from service.request import CURRENT_REQUEST
from service.tracing import is_enabled

# A few cutouts as binary: work on fewer bytes takes less than the 0.1 ms of a switch to a thread and back.
SMALL = 256 * 1024

# Large bodies at a time: what they are decoded into is in memory at once.
THREADS = 4

T = TypeVar("T")

_limiter = CapacityLimiter(THREADS)
_collector_lock = threading.Lock()
_without_collector = 0


async def run_step(name: str, size: int, function: Callable[..., T], *arguments: object) -> T:
    """Call a function as a step of a request that traces show; in a thread if it works on more than `SMALL` bytes."""
    with span(name):
        return function(*arguments) if size <= SMALL else await offload(function, *arguments)


async def offload(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread; what it raises passes through."""
    outcome = await to_thread.run_sync(_call_in_thread, function, arguments, limiter=_limiter)
    if isinstance(outcome, PhotozError):
        try:
            raise outcome
        finally:
            del outcome  # the error, its traceback and this frame, with the arguments, would refer to each other
    return outcome


def _call_in_thread(function: Callable[..., T], arguments: tuple[object, ...]) -> T | PhotozError:
    """Call a function, and drop the traceback of an expected error.

    The traceback would keep all that was unpacked alive until the garbage collector runs, since anyio's future and the
    frame that waits for it refer to each other.
    """
    try:
        return function(*arguments)
    except PhotozError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)


def span(name: str) -> AbstractContextManager[Any]:
    """Trace a part of the work on a request, if traces are wanted."""
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    request = CURRENT_REQUEST.get()
    attributes = {"request_id": request.id, "rows": request.rows} if request else {}
    started: AbstractContextManager[Any] = tracer.start_as_current_span(name, attributes=attributes)
    return started


@cache
def _tracer() -> Any:
    if not is_enabled():
        return None
    from bentoml._internal.configuration.containers import BentoMLContainer

    return BentoMLContainer.tracer_provider.get().get_tracer("photoz")


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
