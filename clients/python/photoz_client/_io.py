"""The two ways to send, wait and do things side by side: in threads, and in an asyncio event loop.

All that decides anything is written once, as coroutines over `Io`. With `BlockingIo` a coroutine never suspends, since
every `await` in it blocks instead; so `finish` runs it to its end without an event loop. That makes the blocking
client work anywhere, inside a notebook's running loop too.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

import httpx

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Started(Protocol[T_co]):
    """A coroutine on its way."""

    async def result(self) -> T_co:
        """Wait for what it returns or raises."""

    async def abandon(self) -> None:
        """Do without."""


class Stop(Protocol):
    """A signal that ends pauses early."""

    def set(self) -> None:
        """Give it."""

    def is_set(self) -> bool:
        """Whether it was given."""

    async def pause(self, seconds: float) -> None:
        """Wait for some time, or until the signal is given."""


class Io(Protocol):
    """All that touches the world."""

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request as `httpx.Client.request` does."""

    async def work(self, function: Callable[[], T]) -> T:
        """Call a function that reads a disk or computes for long."""

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Started[T]:
        """Let a coroutine run beside the caller."""

    def stop_signal(self) -> Stop:
        """Make one that was not given yet."""


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over `BlockingIo` to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine over BlockingIo was suspended")


class BlockingIo:
    """Blocks the calling thread.

    Parameters
    ----------
    http : httpx.Client
        Used from several threads at once, which it allows.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request."""
        return self._http.request(method, url, **options)

    async def work(self, function: Callable[[], T]) -> T:
        """Call it here."""
        return function()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Started[T]:
        """Let it run in a thread of its own."""
        return _InThread(coroutine)

    def stop_signal(self) -> Stop:
        """Make a signal for threads."""
        return _ThreadStop()


class _InThread(Generic[T]):
    """Runs in a daemon: who interrupts the program does not want to wait for answers, as with a thread pool's exit."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._future: Future[T] = Future()
        threading.Thread(target=self._run, args=(coroutine,), name="photoz-client", daemon=True).start()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> None:
        try:
            self._future.set_result(finish(coroutine))
        except BaseException as error:  # it belongs to whoever waits for the result
            self._future.set_exception(error)

    async def result(self) -> T:
        return self._future.result()

    async def abandon(self) -> None:
        pass  # a thread cannot be stopped; it ends with its request


class _ThreadStop:
    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def pause(self, seconds: float) -> None:
        self._event.wait(seconds)


class AsyncIo:
    """Suspends the calling task.

    Parameters
    ----------
    http : httpx.AsyncClient
        Of the running event loop.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request."""
        return await self._http.request(method, url, **options)

    async def work(self, function: Callable[[], T]) -> T:
        """Call it in a thread: the event loop has others to serve."""
        return await asyncio.to_thread(function)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Started[T]:
        """Let it run as a task."""
        return _InTask(coroutine)

    def stop_signal(self) -> Stop:
        """Make a signal for tasks."""
        return _TaskStop()


class _InTask(Generic[T]):
    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.create_task(coroutine)

    async def result(self) -> T:
        return await self._task

    async def abandon(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


class _TaskStop:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
