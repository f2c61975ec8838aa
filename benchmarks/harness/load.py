"""Load generator: a process of its own, whose connections share one event loop.

    python -m benchmarks.harness.load OPTIONS

OPTIONS are those of `run`, as JSON; so are the results. The requests are made before the clock runs. Without a rate
each client sends its next request when it has its answer (closed loop). With one, in requests per second, they come at
random (Poisson) however fast the server is (open loop), and the time of a request counts from when it was due: a server
that falls behind cannot hide it.

Any error, and any answer that differs from the first one to the same request, ends the run with a message; a tolerant
load counts errors, and compares every answer byte by byte.
"""

import asyncio
import gc
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import uvloop

from benchmarks.harness.async_client import GrpcConnection, HttpConnection
from benchmarks.harness.cutouts import DISTINCT, cutouts
from benchmarks.harness.http_client import ANSWER_TIMEOUT, Lost, NotHttp, Refused, Reply, now
from benchmarks.harness.messages import FORMS, BadReply, Form
from benchmarks.harness.threads import arrivals

SAME = 0.01  # of a PDF's bin: more than rounding changes a quantised network, far less than another cutout does
GRACE = 0.1  # seconds after the measured time in which a request may still be sent

SERVED, REFUSED, REFUSED_WITHOUT_TIME, WRONG = "200", "429", "429 without Retry-After", "200 with another answer"


class Exchange(NamedTuple):
    """A request and what came of it: a status, or the reason why there is none; times in seconds."""

    due: float
    begun: float  # when its first byte was sent
    sent: float  # and its last
    answered: float
    outcome: str = SERVED


class Load:
    """Requests for the PDFs of so many images each, on connections that are reused."""

    def __init__(self, form: Form, port: int, path: str, images: int, *, tolerant: bool = False) -> None:
        self.exchanges: list[Exchange] = []
        self._form, self._port, self._images, self._tolerant = form, port, images, tolerant
        self._contents = [form.encode(path, *cutouts(images, first)) for first in range(0, DISTINCT, images)]
        self._idle: deque[HttpConnection | GrpcConnection] = deque()
        self._first: list[Reply] = []
        self._last: dict[int, Reply] = {}
        self._turns = cycle(range(len(self._contents)))

    async def ask_first(self) -> None:
        """Ask for the answers that later ones are compared with."""
        for content in self._contents:
            reply = await self._form.ask(self._port, content)
            sums = self._pdfs(reply).sum(axis=1)
            if len(sums) != self._images or not np.allclose(sums, 1.0, atol=1e-3):
                raise BadReply(f"expected {self._images} PDFs whose sums are 1, got the sums {sums}")
            self._first.append(reply)

    async def ask(self, due: float) -> None:
        """Send the next request on a connection that is idle, or on a new one."""
        begun, number = now(), next(self._turns)
        try:
            connection = await self._connection()
            reply = await connection.ask(self._contents[number])
        except (Lost, Refused) as error:
            if not self._tolerant:
                raise
            self.exchanges.append(Exchange(due, begun, begun, now(), f"{type(error).__name__}: {error}"))
            return
        answered, self._last[number] = now(), reply
        if reply.closes:
            connection.close()
        else:
            self._idle.append(connection)
        sent = answered if connection.sent_at is None else connection.sent_at  # a refusal may come before all is sent
        self.exchanges.append(Exchange(due, begun, sent, answered, self._outcome(number, reply)))

    def close(self) -> None:
        """Close all connections, and compare the last answers with the first ones."""
        for connection in self._idle:
            connection.close()
        for number, reply in self._last.items():
            if not self._tolerant and np.abs(self._pdfs(reply) - self._pdfs(self._first[number])).max() > SAME:
                raise BadReply("the same request brought other PDFs under load than at first")

    async def _connection(self) -> HttpConnection | GrpcConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_over:
                return connection
        return await self._form.connect(self._port)

    def _pdfs(self, reply: Reply) -> np.ndarray:
        return self._form.pdfs(reply, self._images)

    def _outcome(self, number: int, reply: Reply) -> str:
        if not self._tolerant and reply.status != 200:
            raise BadReply(f"expected status 200, got {reply.status}: {reply.body[:300]!r}")
        if reply.status == 429 and "retry-after" not in reply.headers:
            return REFUSED_WITHOUT_TIME
        if self._tolerant and reply.status == 200 and reply.body != self._first[number].body:
            return WRONG
        return str(reply.status)


def summarise(exchanges: Sequence[Exchange], images: int, start: float, end: float) -> dict[str, float]:
    """Describe the requests that were served between `start` and `end`; times in milliseconds.

    In the rate, a request that lies across an edge counts in part; the times are of those due in between, from then.
    """
    served = [(one.due, one.begun, one.answered) for one in exchanges if one.outcome == SERVED]
    due, begun, answered = np.array(served).T
    inside = np.minimum(answered, end) - np.maximum(begun, start)
    share = np.clip(inside / (answered - begun), 0.0, 1.0)
    counted = (due >= start) & (due < end)
    p50, p95, p99, most = np.percentile(1e3 * (answered - due)[counted], (50, 95, 99, 100))
    figures = {"images_per_s": images * share.sum() / (end - start), "requests": counted.sum()}
    figures |= {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": most}
    figures["late_p99_ms"] = np.percentile(1e3 * (begun - due)[counted], 99)
    return {name: float(value) for name, value in figures.items()}


def summarise_refusals(exchanges: Sequence[Exchange], end: float) -> dict[str, float]:
    """Describe what was not served in the whole run; refusals are timed from when the request had been sent."""
    outcomes = Counter(one.outcome for one in exchanges)
    refused = [1e3 * (one.answered - one.sent) for one in exchanges if one.outcome.startswith(REFUSED)]
    figures = {
        "refused": len(refused),
        "without_retry_after": outcomes[REFUSED_WITHOUT_TIME],
        "wrong": outcomes[WRONG],
        "failed": len(exchanges) - len(refused) - outcomes[SERVED] - outcomes[WRONG],
        "sent_too_late": sum(one.begun > end + GRACE for one in exchanges),
    }
    if refused:
        figures["refused_p99_ms"] = np.percentile(refused, 99)
    return {name: float(value) for name, value in figures.items()}


async def closed_loop(ask: Callable[[float], Awaitable[None]], clients: int, end: float) -> None:
    """Call `ask` with the time for so many clients, for each again and again until the end."""

    async def keep_asking() -> None:
        while (at := now()) < end:
            await ask(at)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(keep_asking())


async def open_loop(ask: Callable[[float], Awaitable[None]], clients: int, due: Iterable[float]) -> None:
    """Call `ask` at each of the given times and with it, at most so many at once; if none is free, it waits."""
    free = asyncio.Semaphore(clients)

    async def ask_once(at: float) -> None:
        async with free:
            await ask(at)

    async with asyncio.TaskGroup() as group:
        for at in due:
            if at > now():
                await asyncio.sleep(max(at - now(), 0.001))  # the clock of the event loop counts milliseconds
            group.create_task(ask_once(at))


def run(
    port: int,
    path: str,
    clients: int,
    images: int,
    seconds: float,
    *,
    form: str = "v2",
    rate: float | None = None,
    warm_up: float = 0.5,
    tolerant: bool = False,
) -> dict[str, Any]:
    """Run a load of so many clients at most, with so many images in a request, for `seconds` after `warm_up`."""
    load = Load(FORMS[form], port, path, images, tolerant=tolerant)

    async def run_loop() -> tuple[float, float]:
        await load.ask_first()
        start = now() + warm_up
        end = start + seconds
        async with asyncio.timeout(warm_up + seconds + ANSWER_TIMEOUT):
            if rate:
                await open_loop(load.ask, clients, arrivals(rate, now(), end))
            else:
                await closed_loop(load.ask, clients, end)
        load.close()
        return start, end

    gc.disable()  # a pause here would count against the server
    cpu = time.process_time()
    start, end = uvloop.run(run_loop())
    cpu = time.process_time() - cpu
    figures = summarise(load.exchanges, images, start, end)
    figures["generator_ms"] = 1e3 * cpu / len(load.exchanges)
    if not tolerant:
        return figures
    outcomes = dict(Counter(one.outcome for one in load.exchanges))
    return figures | summarise_refusals(load.exchanges, end) | {"generator_s": cpu, "outcomes": outcomes}


if __name__ == "__main__":
    try:
        print(json.dumps(run(**json.loads(sys.argv[1]))))
    except* (BadReply, Lost, NotHttp, Refused) as problems:
        sys.exit(f"load: {problems.exceptions[0]}")
