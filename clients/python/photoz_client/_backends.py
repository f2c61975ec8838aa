"""Blocking and asyncio input and output behind one interface.

The logic of both clients is written once, as coroutines over a `Backend`. Over `BlockingBackend` such a coroutine never
suspends, because every `await` in it blocks instead, so `run_blocking` runs it without an event loop. The blocking
client therefore also works inside a running event loop, such as that of a notebook.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import httpx

from photoz_client._body import Body

T = TypeVar("T")
Event = threading.Event | asyncio.Event
Start = Callable[[httpx.Response], Body]


class BlockingTasks:
    """Blocks the calling thread; tasks are threads."""

    event = threading.Event

    async def offload(self, function: Callable[[], T]) -> T:
        """Call a function that reads from disk or computes for a long time."""
        return function()

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Run a coroutine concurrently with the caller.

        The thread is a daemon, so that an interrupted program ends without waiting for responses.
        """
        future: Future[T] = Future()
        threading.Thread(target=_run, args=(coroutine, future), name="photoz-client", daemon=True).start()
        return _result(future)

    async def abandon(self, task: Any) -> None:
        """Stop a task, as far as possible: a thread only ends with its request."""
        task.close()

    async def sleep(self, seconds: float, wake: Any = None) -> None:
        """Sleep for some time, or until the event is set."""
        (wake or threading.Event()).wait(seconds)


class BlockingBackend(BlockingTasks):
    """Also sends requests; several threads may share the `httpx.Client`."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    async def send(self, start: Start, method: str, url: str, *, auth: Any, **options: Any) -> httpx.Response:
        """Send a request, as `httpx.Client.request` does; `start` makes what the body of the response is added to."""
        response = self._http.send(self._http.build_request(method, url, **options), auth=auth, stream=True)
        try:
            body = start(response)
            for chunk in response.iter_bytes():
                body.add(chunk)
        finally:
            response.close()
        if self._http.is_closed:  # by another thread; while this one was connecting, that did not close its connection
            response.extensions["network_stream"].close()
        return body.response()


def _run(coroutine: Coroutine[Any, Any, T], future: Future[T]) -> None:
    try:
        future.set_result(run_blocking(coroutine))
    except BaseException as error:  # raised again where the result is awaited
        future.set_exception(error)


async def _result(future: Future[T]) -> T:
    # Ctrl-C does not end a wait that begins just after it, so no wait is long.
    while not future.done():
        wait([future], timeout=1.0)
    return future.result()


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


class AsyncBackend:
    """Suspends the calling task; the `httpx.AsyncClient` belongs to the running event loop."""

    event = asyncio.Event

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(self, start: Start, method: str, url: str, *, auth: Any, **options: Any) -> httpx.Response:
        response = await self._http.send(self._http.build_request(method, url, **options), auth=auth, stream=True)
        try:
            body = start(response)
            async for chunk in response.aiter_bytes():
                body.add(chunk)
        finally:
            await response.aclose()
        return body.response()

    async def offload(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        return asyncio.create_task(coroutine)

    async def abandon(self, task: Any) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def sleep(self, seconds: float, wake: Any = None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for((wake or asyncio.Event()).wait(), seconds)


Backend = BlockingBackend | AsyncBackend
