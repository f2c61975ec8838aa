"""Blocking and asyncio input and output behind one interface.

The logic of both clients is written once, as coroutines over a `Backend`. Over `BlockingBackend` such a coroutine never
suspends, because every `await` in it blocks instead, so `run_blocking` runs it without an event loop. The blocking
client therefore also works inside a running event loop, such as that of a notebook.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, wait
from typing import Any, Generic, Protocol, TypeVar

import httpx

T = TypeVar("T")


class Event(Protocol):
    """What `threading.Event` and `asyncio.Event` have in common."""

    def set(self) -> None: ...

    def is_set(self) -> bool: ...

    def wait(self, *args: Any, **options: Any) -> Any: ...


class Backend(Protocol):
    """Sends requests, sleeps and runs tasks concurrently."""

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request, as `httpx.Client.request` does."""

    async def offload(self, function: Callable[[], T]) -> T:
        """Call a function that reads from disk or computes for a long time."""

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Run a coroutine concurrently with the caller."""

    async def abandon(self, task: Any) -> None:
        """Stop a task, as far as possible."""

    def event(self) -> Event:
        """Make an event."""

    async def sleep(self, seconds: float, wake: Event) -> None:
        """Sleep for some time, or until the event is set."""


class BlockingBackend:
    """Blocks the calling thread; several threads may share the `httpx.Client`."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._http.request(method, url, **options)

    async def offload(self, function: Callable[[], T]) -> T:
        return function()

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        return _ThreadTask(coroutine)

    async def abandon(self, task: Any) -> None:
        pass  # a thread cannot be stopped; it ends with its request

    def event(self) -> Event:
        return threading.Event()

    async def sleep(self, seconds: float, wake: Event) -> None:
        wake.wait(seconds)


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over `BlockingBackend` to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine over BlockingBackend was suspended")


def iterate_blocking(generator: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate over an asynchronous generator over `BlockingBackend`, and close it at the end."""
    try:
        while True:
            try:
                item = run_blocking(generator.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_blocking(generator.aclose())


class _ThreadTask(Generic[T]):
    """Runs a coroutine in a daemon thread, so that an interrupted program ends without waiting for answers."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._future: Future[T] = Future()
        threading.Thread(target=self._run, args=(coroutine,), name="photoz-client", daemon=True).start()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> None:
        try:
            self._future.set_result(run_blocking(coroutine))
        except BaseException as error:  # raised again where the result is awaited
            self._future.set_exception(error)

    async def _result(self) -> T:
        # Ctrl-C does not end a wait that begins just after it: only between two waits is it sure to be seen.
        while not self._future.done():
            wait([self._future], timeout=1.0)
        return self._future.result()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._result().__await__()


class AsyncBackend:
    """Suspends the calling task; the `httpx.AsyncClient` belongs to the running event loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        return await self._http.request(method, url, **options)

    async def offload(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        return asyncio.create_task(coroutine)

    async def abandon(self, task: Any) -> None:
        task.cancel()
        await asyncio.wait([task])

    def event(self) -> Event:
        return asyncio.Event()

    async def sleep(self, seconds: float, wake: Event) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), seconds)
