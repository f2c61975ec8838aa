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
from benchmarks.harness.threads import background
from benchmarks.resilience.known_answers import ALIVE, CheckedRequest, Mix, WrongAnswer
from photoz.protocol.contract import MODEL_HEADER

CAPACITY_CLIENTS = 16
OFTEN, SELDOM = 16, 8  # clients of `raw_load`; half of the former keep their connections, all of the latter do
SELDOM_S = 8.0  # seconds within which a client that asks seldom asks once: many are idle all through a shutdown


class Answer(NamedTuple):
    """A right answer: when its request was sent, when it was there, the request's kind, and the model that answered."""

    asked_at: float
    answered_at: float
    kind: str
    label: str = ""

    @property
    def took_s(self) -> float:
        """Seconds from when the request was sent."""
        return self.answered_at - self.asked_at


class Failure(NamedTuple):
    """A request without a right answer: when it was sent, what came of it, and details."""

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
        return [f"{asked_at - since:+.3f} s: {outcome}: {text}" for asked_at, outcome, text in self.failures[:n]]


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

    def ask(self, request: CheckedRequest, *, fresh: bool | None = None) -> str:
        """Send a request once and record what came of it; return the outcome, "right" if all is well.

        By default the connection is made again if the server has closed it; with `fresh` False it is used as it is.
        """
        asked_at, outcome, text = now(), "right", ""
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

        A server may close an idle connection at any time, also while a request is on its way (RFC 9112, 9.5). The two
        crossed, which no server can prevent, if it has not read the request: then its kernel resets the connection.
        """
        self._fresh = self.is_over() if fresh is None else fresh
        if self._connection is None or self._fresh:
            self.close()
            self._connection = Connection(self._port, self._address)
        try:
            reply = self._connection.ask(content)
        except (Lost, NotHttp):
            self._crossed = not self._fresh and self._connection.is_reset()
            self.close()
            raise
        if reply.closes or not self._keeps:
            self.close()
        return reply

    def _loss(self, error: Lost | NotHttp) -> str:
        if isinstance(error, Cut):
            return "cut"
        if self._crossed:
            return "crossed"
        return "lost_fresh" if self._fresh else self._kept

    @property
    def sent_at(self) -> float:
        """When the last byte of the last request had been sent."""
        return connection.sent_at if (connection := self._connection) else float("inf")

    def is_over(self) -> bool:
        """Whether there is no connection, or the server has closed it."""
        return self._connection is None or self._connection.is_over()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def capacity(port: int, mix: Mix, seconds: float) -> float:
    """Measure the requests per second of clients that wait for nothing but their answers."""
    log, stop = RequestLog(), threading.Event()
    clients = [Client(port, log) for _ in range(CAPACITY_CLIENTS)]
    with background([partial(keep_asking, client, mix.choose, stop, lambda: 0.0) for client in clients], stop):
        time.sleep(seconds)
    if log.failures:
        raise WrongAnswer(f"while the capacity was measured: {log.failures[0].text}")
    return len(log.answers) / seconds


@contextlib.contextmanager
def raw_load(port: int, mix: Mix, rate: float, seed: int, log: RequestLog, n_often: int = OFTEN) -> Iterator[None]:
    """Let clients ask about `rate` times a second, at random, and a few others seldom, as long as the context lasts."""
    chance, stop = random.Random(seed), threading.Event()
    often, seldom = partial(chance.expovariate, rate / n_often), partial(chance.uniform, 0, SELDOM_S)
    clients = [(Client(port, log, keeps=number % 2 == 0), often) for number in range(n_often)]
    clients += [(Client(port, log), seldom) for _ in range(SELDOM)]
    with background([partial(keep_asking, client, mix.choose, stop, pause) for client, pause in clients], stop):
        yield


def keep_asking(
    client: Client, choose: Callable[[], CheckedRequest], stop: threading.Event, pause: Callable[[], float]
) -> None:
    """Let a client ask until `stop` is set, with a pause before each request."""
    while not stop.wait(pause()):
        client.ask(choose())
    client.close()


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
