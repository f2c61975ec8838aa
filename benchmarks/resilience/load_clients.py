"""Callers of a service that is being replaced: raw ones that never ask again, and those of the SDK.

Both loads are contexts. What comes back is noted with the version that gave it.
"""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import httpx

from benchmarks.endurance import kills
from benchmarks.endurance.checks import Good, WrongAnswer, alive
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, now
from benchmarks.endurance.drain import LONG
from benchmarks.endurance.soak import Mix
from photoz.protocol.contract import MODEL_HEADER
from photoz_client import PhotozClient, Prediction

KEPT, FRESH, SELDOM = 8, 8, 8  # raw clients: that keep their connections, that do not, and that keep and ask seldom
SELDOM_S = 8.0  # seconds in which one that asks seldom asks at least once: many pass a whole end in silence
SDK_CALLS = ((1, 0.1), (1, 0.1), (kills.FEW, 0.5), (LONG, 2.0))  # cutouts in a call, seconds between calls
SDK = "sdk"

AT_ONCE = 16 * 1024  # bytes that the kernel takes at once

LATE = 200  # connections that idle until the service closes them, or just not
LATE_S = 1.5  # seconds over which they ask


@dataclass(frozen=True)
class Answer:
    """A right answer.

    Parameters
    ----------
    asked_at, answered_at : float
        Before the connection was made, and when all of it was there; seconds. Of the SDK, when its head was there.
    kind : str
        Of the request.
    label : str
        The version that gave it; empty where an answer does not tell.
    """

    asked_at: float
    answered_at: float
    kind: str
    label: str


@dataclass
class Seen:
    """What became of the requests."""

    answers: list[Answer] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str]] = field(default_factory=list)
    sdk: kills.Seen = field(default_factory=kills.Seen)
    sdk_mixed: int = 0

    def fail(self, outcome: str, words: object) -> None:
        """Count a request that got no right answer, and keep some words on it."""
        self.outcomes[outcome] += 1
        self.failures.append((now(), f"{outcome}: {words}"[:200]))


async def ask(connection: Connection, good: Good, seen: Seen, how: str, asked_at: float) -> bool:
    """Ask once, note what became of it, and tell whether the connection can be kept.

    An idle connection may be closed at any time, also while a request is on its way (RFC 9112, 9.5). A farewell that is
    there when the first bytes have just gone left before they arrived: the two crossed, and no server can prevent it.
    That is counted by itself.

    Parameters
    ----------
    connection, good, seen
        Where, what, and what it is noted in.
    how : str
        What connection it is, in a word: what is lost on it is counted by that.
    asked_at : float
        When the caller began, before it made the connection; seconds.
    """
    crossed = False
    try:
        await connection.send(good.content[:AT_ONCE])
        crossed = how != "fresh" and connection.has_farewell()
        await connection.send(good.content[AT_ONCE:])
        reply = await connection.receive()
        if reply.status == 429 or reply.status >= 500:
            seen.fail("unavailable", f"{good.kind}: {reply.status}: {reply.body[:100]!r}")
            return False
        good.check(reply)
    except (Lost, NotHttp) as error:
        seen.fail("crossed" if crossed else f"lost_{how}", f"{good.kind}, after {now() - asked_at:.3f} s: {error}")
        return False
    except WrongAnswer as error:
        seen.fail("wrong", error)
        return False
    seen.answers.append(Answer(asked_at, reply.answered, good.kind, reply.headers.get(MODEL_HEADER, "")))
    return not reply.closes


async def stand(port: int) -> Connection:
    """Make a connection that has served."""
    connection = await Connection.open(port)
    alive().check(await connection.ask(alive().content))
    return connection


async def ask_and_leave(connection: Connection, good: Good, seen: Seen) -> None:
    """Ask once on a connection that stands, and close it."""
    await ask(connection, good, seen, "kept", now())
    connection.close()


async def ask_late(connections: Sequence[Connection], since: float, seen: Seen) -> None:
    """Let connections that stand ask once, one after the other in `LATE_S`, unless they are closed by then.

    A caller cannot know that his connection is being closed. So whatever reached the service before it said so has to
    be answered.
    """
    for number, connection in enumerate(connections):
        await asyncio.sleep(max(0.0, since + number / len(connections) * LATE_S - now()))
        if not connection.is_over():
            await ask(connection, alive(), seen, "late", now())
        connection.close()


class Caller:
    """Waits a while and asks, again and again, but never again what failed."""

    def __init__(self, port: int, mix: Mix, pause: Callable[[], float], seen: Seen, *, keeps: bool) -> None:
        self._port, self._mix, self._pause, self._seen, self._keeps = port, mix, pause, seen, keeps
        self._connection: Connection | None = None

    async def work(self, done: asyncio.Event) -> None:
        """Ask until it is enough."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), self._pause())
            if done.is_set():
                break
            try:
                await self._ask(self._mix.choose())
            except Refused as error:
                self._seen.fail("lost_fresh", f"refused: {error}")
        self._drop()

    async def _ask(self, good: Good) -> None:
        asked_at, how = now(), "kept"
        if self._connection is None or self._connection.is_over():
            self._drop()
            self._connection, how = await Connection.open(self._port), "fresh"
        if not await ask(self._connection, good, self._seen, how, asked_at) or not self._keeps:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


async def capacity(port: int, mix: Mix, seconds: float) -> float:
    """Measure how many requests a second are answered if callers wait for nothing but their answers."""
    seen = Seen()
    async with _working([Caller(port, mix, lambda: 0.0, seen, keeps=True) for _ in range(KEPT + FRESH)]):
        await asyncio.sleep(seconds)
    if seen.failures:
        raise WrongAnswer(f"while the capacity was measured: {seen.failures[0][1]}")
    return len(seen.answers) / seconds


def raw_load(port: int, mix: Mix, rate: float, seed: int, seen: Seen) -> AbstractAsyncContextManager[None]:
    """Let raw clients ask about `rate` times a second, at random, and a few others seldom."""
    chance = random.Random(seed)
    often = [
        Caller(port, mix, lambda: chance.expovariate(rate / (KEPT + FRESH)), seen, keeps=number < KEPT)
        for number in range(KEPT + FRESH)
    ]
    seldom = [Caller(port, mix, lambda: chance.uniform(0, SELDOM_S), seen, keeps=True) for _ in range(SELDOM)]
    return _working(often + seldom)


@contextlib.asynccontextmanager
async def _working(callers: Sequence[Caller]) -> AsyncIterator[None]:
    done = asyncio.Event()
    tasks = [asyncio.create_task(caller.work(done)) for caller in callers]
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(*tasks)


class Noting(kills.Counting):
    """Notes which version gave what single attempts bring."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.sdk)
        self._answers = seen.answers

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        asked_at = now()
        response = super().handle_request(request)
        if response.status_code == 200:
            self._answers.append(Answer(asked_at, now(), SDK, response.headers.get(MODEL_HEADER, "")))
        return response


@contextlib.asynccontextmanager
async def sdk_load(port: int, seen: Seen) -> AsyncIterator[None]:
    """Let clients of the SDK call, each in a thread: single cutouts, 64 and 1,000."""
    url, done = f"http://127.0.0.1:{port}", threading.Event()
    with PhotozClient(url) as client:
        expected = {n: await asyncio.to_thread(_expected, client, n) for n in {n for n, _ in SDK_CALLS}}
    tasks = [asyncio.to_thread(_keep_calling, url, expected[n], pause, seen, done) for n, pause in SDK_CALLS]
    gathered = asyncio.gather(*tasks)
    try:
        yield
    finally:
        done.set()
        await gathered


def _expected(client: PhotozClient, n: int) -> Prediction:
    (joined,) = kills._joined(kills.call(client, n))
    return joined


def _keep_calling(url: str, expected: Prediction, pause: float, seen: Seen, done: threading.Event) -> None:
    with httpx.Client(transport=Noting(seen)) as http, PhotozClient(url, http=http) as client:
        while not done.wait(pause):
            began, labels = now(), set[str]()
            parts = _labels_noted(kills.call(client, len(expected.z_mean)), labels)
            seen.sdk.note(parts, expected, lambda began=began: now() - began)  # type: ignore[misc]
            with seen.sdk.lock:
                seen.sdk_mixed += len(labels) > 1


def _labels_noted(parts: Iterable[kills.Part], labels: set[str]) -> Iterator[kills.Part]:
    for rows, prediction in parts:
        labels.add(prediction.model)
        yield rows, prediction
