"""Limits on the time that a request waits for its client: to send its body, or to read its answer."""

import asyncio
from typing import Self

# Bytes per second that a client has to send or to read at least.
MIN_RATE = 64_000

# Seconds behind that rate after which a client has to yield to others, if they need its memory or its place.
YIELD_AFTER = 1.0


class ClientWaits:
    """The requests of a worker that wait for their clients."""

    def __init__(self) -> None:
        self._waits: set[ClientWait] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, seconds: float) -> "ClientWait":
        """Return a wait, to be entered; the client may fall behind `MIN_RATE` by so many seconds."""
        self._loop = asyncio.get_running_loop()
        return ClientWait(self._waits, self._loop, seconds)

    def end_stalled(self) -> None:
        """End those whose clients are behind, since others need what they hold; may be called in any thread."""
        if self._loop is not None and self._waits:
            self._loop.call_soon_threadsafe(self._end_stalled)

    def _end_stalled(self) -> None:
        for wait in self._waits:
            if wait.seconds_behind > YIELD_AFTER:
                wait.end()


class ClientWait:
    """One of them; leaving it raises `TimeoutError` if the client fell behind.

    What it sent or read faster before does not count: a client that stops has no more than `seconds`.
    """

    def __init__(self, waits: "set[ClientWait]", loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._waits, self._now, self._seconds = waits, loop.time, seconds
        self._begin = loop.time()
        self._end = self._begin + seconds
        self._deadline = asyncio.timeout_at(self._end)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        self._waits.add(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._waits.discard(self)
        await self._deadline.__aexit__(*error)  # type: ignore[arg-type]

    @property
    def seconds(self) -> float:
        """Since its start."""
        return self._now() - self._begin

    @property
    def seconds_behind(self) -> float:
        """By which the client is behind `MIN_RATE`."""
        return self._seconds - (self._end - self._now())

    def advance(self, n_bytes: int) -> None:
        """Note that the client has sent or read so many bytes."""
        self._end = min(self._end + n_bytes / MIN_RATE, self._now() + self._seconds)
        self._deadline.reschedule(self._end)

    def end(self) -> None:
        """End it now."""
        self._deadline.reschedule(self._now())
