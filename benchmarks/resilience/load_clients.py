"""Clients that send requests with known answers, never repeat one, and record what came of each."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from benchmarks.harness.http_client import Connection, Cut, Lost, NotHttp, Refused, Reply, now
from benchmarks.harness.threads import background, closed_loop
from benchmarks.resilience.known_answers import ALIVE, CheckedRequest, Mix, WrongAnswer
from photoz.protocol.contract import MODEL_HEADER

FIRST_PART = 16 * 1024  # bytes that the kernel accepts at once

CAPACITY_CLIENTS = 16
OFTEN, SELDOM = 16, 8  # clients of `raw_load`; half of the former keep their connections, all of the latter do
SELDOM_S = 8.0  # seconds within which a client that asks seldom asks once: many are idle all through a shutdown


class Answer(NamedTuple):
    """A right answer: when its request was due, when it was there, the request's kind, and the model that answered."""

    asked_at: float
    answered_at: float
    kind: str
    label: str = ""

    @property
    def took_s(self) -> float:
        """Seconds from when the request was due."""
        return self.answered_at - self.asked_at


class Failure(NamedTuple):
    """A request without a right answer: when it was due, what came of it, and details."""

    asked_at: float
    outcome: str
    text: str


@dataclass
class RequestLog:
    """What came of the requests of clients, which may share it between threads."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    difference: float = 0.0

    def outcomes(self) -> Counter[str]:
        """Count the failures: lost_kept, lost_fresh, crossed, cut, refused, busy (429), unavailable (503), wrong."""
        return Counter(failure.outcome for failure in self.failures)

    def examples(self, n: int, since: float = 0.0) -> list[str]:
        """Describe the first n failures."""
        return [f"{one.asked_at - since:+.3f} s: {one.outcome}: {one.text}" for one in self.failures[:n]]


class Client:
    """Asks on one connection, which it makes again when the server has closed it, or after each answer if not `keeps`.

    `kept` is what a request counts as that is lost on a connection that has served before; `address` is the client's.
    """

    def __init__(
        self, port: int, log: RequestLog, *, keeps: bool = True, kept: str = "lost_kept", address: str | None = None
    ) -> None:
        self._port, self._log, self._keeps, self._kept = port, log, keeps, kept
        self._address = address
        self._connection: Connection | None = None
        self.used_at = 0.0

    def ask(self, request: CheckedRequest, due: float | None = None, *, fresh: bool | None = None) -> str:
        """Send a request once and record what came of it; return the outcome, "right" if all is well.

        By default the connection is made again if the server has closed it; with `fresh` False it is used as it is.
        """
        asked_at = now() if due is None else due
        outcome, text = "right", ""
        try:
            reply = self.exchange(request.content, fresh)
            if reply.status in (429, 503):
                outcome, text = "busy" if reply.status == 429 else "unavailable", repr(reply.body[:100])
            else:
                self._log.difference = max(self._log.difference, request.check(reply))
                self._log.answers.append(Answer(asked_at, now(), request.kind, reply.headers.get(MODEL_HEADER, "")))
        except (Lost, NotHttp) as error:
            outcome, text = self._loss(error), str(error)
        except Refused as error:
            outcome, text = "refused", str(error)
        except WrongAnswer as error:
            outcome, text = "wrong", str(error)
        if outcome != "right":
            self._log.failures.append(Failure(asked_at, outcome, f"{request.kind}: {text}"[:300]))
            self.close()
        return outcome

    def exchange(self, content: bytes, fresh: bool | None = None) -> Reply:
        """Send bytes and return the answer; `Lost`, `NotHttp` or `Refused` if there is none.

        A server may close an idle connection at any time, also while a request is on its way (RFC 9112, 9.5). If the
        connection is closed when the first bytes have just been sent, the two crossed, which no server can prevent.
        """
        self._fresh, self._crossed = self.is_over() if fresh is None else fresh, False
        if self._connection is None or self._fresh:
            self.close()
            self._connection = Connection(self._port, self._address)
        try:
            self._connection.send(content[:FIRST_PART])
            self._crossed = not self._fresh and self._connection.is_closed_by_server()
            reply = self._connection.ask(content[FIRST_PART:])
        except (Lost, NotHttp):
            self.close()
            raise
        self.used_at = now()
        if reply.closes or not self._keeps:
            self.close()
        return reply

    def _loss(self, error: Lost | NotHttp) -> str:
        if self._crossed:
            return "crossed"
        if isinstance(error, Cut):
            return "cut"
        return "lost_fresh" if self._fresh else self._kept

    def is_over(self) -> bool:
        """Whether there is no connection, or the server has closed it."""
        return self._connection is None or self._connection.is_over()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class ClientPool:
    """Clients that are idle: a request takes the one that was used last, or a new one."""

    def __init__(self, port: int, log: RequestLog, max_idle_s: float = float("inf")) -> None:
        self._port, self._log, self._max_idle_s = port, log, max_idle_s
        self._idle: list[Client] = []

    def ask(self, request: CheckedRequest, due: float) -> None:
        """Ask with a client that is idle."""
        try:
            client = self._idle.pop()
        except IndexError:
            client = Client(self._port, self._log)
        if now() - client.used_at > self._max_idle_s:
            client.close()
        client.ask(request, due)
        self._idle.append(client)

    def close(self) -> None:
        """Close the connections of all clients."""
        for client in self._idle:
            client.close()


def capacity(port: int, mix: Mix, seconds: float) -> float:
    """Measure the requests per second of clients that wait for nothing but their answers."""
    log = RequestLog()
    pool = ClientPool(port, log)
    closed_loop(lambda due: pool.ask(mix.choose(), due), CAPACITY_CLIENTS, now() + seconds)
    pool.close()
    if log.failures:
        raise WrongAnswer(f"while the capacity was measured: {log.failures[0].text}")
    return len(log.answers) / seconds


@contextlib.contextmanager
def raw_load(port: int, mix: Mix, rate: float, seed: int, log: RequestLog) -> Iterator[None]:
    """Let clients ask about `rate` times a second, at random, and a few others seldom, as long as the context lasts."""
    chance, done = random.Random(seed), threading.Event()

    def keep_asking(keeps: bool, pause: Callable[[], float]) -> None:
        client = Client(port, log, keeps=keeps)
        while not done.wait(pause()):
            client.ask(mix.choose())
        client.close()

    often, seldom = partial(chance.expovariate, rate / OFTEN), partial(chance.uniform, 0, SELDOM_S)
    calls = [partial(keep_asking, number % 2 == 0, often) for number in range(OFTEN)]
    with background([*calls, *[partial(keep_asking, True, seldom)] * SELDOM], done):
        yield


def standing_client(port: int, log: RequestLog, kept: str = "lost_kept") -> Client:
    """Return a client whose connection has served a request."""
    client = Client(port, log, kept=kept)
    ALIVE.check(client.exchange(ALIVE.content))
    return client


def ask_late(clients: Sequence[Client], since: float, seconds: float) -> None:
    """Let idle clients ask one after the other in so many seconds, unless their connections are closed by then.

    A client cannot know that its connection is about to be closed: the service has to answer whatever reaches it before
    it closes.
    """
    for number, client in enumerate(clients):
        time.sleep(max(0.0, since + number / len(clients) * seconds - now()))
        if not client.is_over():
            client.ask(ALIVE, fresh=False)
        client.close()
