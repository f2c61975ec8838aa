"""Clients that send requests with known answers, never repeat one, and record what came of each."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, Reply, now
from benchmarks.harness.load import closed_loop
from benchmarks.resilience.known_answers import ALIVE, CheckedRequest, Mix, WrongAnswer
from photoz.protocol.contract import MODEL_HEADER

FIRST_PART = 16 * 1024  # bytes that the kernel accepts at once
KEPT, FRESH = "kept", "fresh"  # connections on which a request is sent

CAPACITY_CLIENTS = 16
OFTEN, SELDOM = 16, 8  # clients of `raw_load`; half of the former keep their connections, all of the latter do
SELDOM_S = 8.0  # seconds within which a client that asks seldom asks once: many are idle all through a shutdown


@dataclass(frozen=True)
class Answer:
    """A right answer; times in seconds.

    Parameters
    ----------
    asked_at, answered_at : float
        When the request was due, and when the whole answer was there; of the SDK, its head.
    kind : str
        Of the request.
    label : str
        The model that answered; empty if the answer does not state it.
    """

    asked_at: float
    answered_at: float
    kind: str
    label: str = ""


@dataclass(frozen=True)
class Failure:
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
        """Count the failures by their outcome: lost_kept, lost_fresh, crossed, cut, refused, unavailable or wrong."""
        return Counter(failure.outcome for failure in self.failures)

    def examples(self, n: int, since: float = 0.0) -> list[str]:
        """Describe the first n failures."""
        return [f"{one.asked_at - since:+.3f} s: {one.outcome}: {one.text}" for one in self.failures[:n]]


class Client:
    """Asks on one connection, which it makes again when the server has closed it.

    Parameters
    ----------
    keeps : bool
        Whether it keeps the connection after an answer.
    kept : str
        What a request that is lost on a connection that has served before is counted as: lost_kept by default.
    """

    def __init__(self, port: int, log: RequestLog, *, keeps: bool = True, kept: str = KEPT) -> None:
        self._port, self._log, self._keeps, self._kept = port, log, keeps, kept
        self._connection: Connection | None = None
        self._used_at = 0.0

    def ask(self, request: CheckedRequest, due: float | None = None) -> str:
        """Send a request once and record what came of it; return the outcome, "right" if all is well."""
        asked_at = now() if due is None else due
        outcome, text = "right", ""
        try:
            reply = self.exchange(request.content)
            if reply.status in (429, 503):
                outcome, text = "unavailable", f"{request.kind}: {reply.status}: {reply.body[:100]!r}"
            else:
                self._log.difference = max(self._log.difference, request.check(reply))
                label = reply.headers.get(MODEL_HEADER, "")
                self._log.answers.append(Answer(asked_at, now(), request.kind, label))
        except LostRequest as error:
            outcome, text = error.outcome, f"{request.kind}: {error}"
        except Refused as error:
            outcome, text = "refused", f"{request.kind}: {error}"
        except WrongAnswer as error:
            outcome, text = "wrong", str(error)
        if outcome != "right":
            self._log.failures.append(Failure(asked_at, outcome, text[:300]))
            self.close()
        return outcome

    def exchange(self, content: bytes) -> Reply:
        """Send bytes and wait for the answer; `LostRequest` or `Refused` if there is none.

        A server may close an idle connection at any time, also while a request is on its way (RFC 9112, 9.5). If the
        connection is closed when the first bytes have just been sent, the two crossed, which no server can prevent.
        """
        fresh, crossed = self.is_over(), False
        connection = self.connect()
        try:
            connection.send(content[:FIRST_PART])
            crossed = not fresh and connection.is_closed_by_server()
            connection.send(content[FIRST_PART:])
            reply = connection.receive()
        except (Lost, NotHttp) as error:
            self.close()
            outcome = f"lost_{FRESH if fresh else self._kept}"
            if crossed or (isinstance(error, Lost) and not error.sent):
                outcome = "crossed" if crossed else "cut"
            raise LostRequest(outcome, str(error)) from error
        self._used_at = now()
        if reply.closes or not self._keeps:
            self.close()
        return reply

    def connect(self) -> Connection:
        """Return the connection, made again if it is over."""
        if self._connection is None or self._connection.is_over():
            self.close()
            self._connection = Connection(self._port)
        return self._connection

    def is_over(self) -> bool:
        """Whether the server has closed the connection."""
        return self._connection is None or self._connection.is_over()

    def idle_s(self) -> float:
        """Return the seconds since the last answer."""
        return now() - self._used_at

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class LostRequest(Exception):
    """A request without a whole answer; `outcome` is the kind of loss."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class ClientPool:
    """Clients that are idle; a request takes the last one used, or a new one."""

    def __init__(self, port: int, log: RequestLog, max_idle_s: float = float("inf")) -> None:
        self._port, self._log, self._max_idle_s = port, log, max_idle_s
        self._idle: list[Client] = []

    def ask(self, request: CheckedRequest, due: float) -> None:
        """Ask with a client that is idle."""
        try:
            client = self._idle.pop()
        except IndexError:
            client = Client(self._port, self._log)
        if client.idle_s() > self._max_idle_s:
            client.close()
        client.ask(request, due)
        self._idle.append(client)


def capacity(port: int, mix: Mix, seconds: float) -> float:
    """Measure the requests per second of clients that wait for nothing but their answers."""
    log, end = RequestLog(), now() + seconds
    pool = ClientPool(port, log)
    closed_loop(lambda due: pool.ask(mix.choose(), due), CAPACITY_CLIENTS, end)
    if log.failures:
        raise WrongAnswer(f"while the capacity was measured: {log.failures[0].text}")
    return len(log.answers) / seconds


@contextlib.contextmanager
def raw_load(port: int, mix: Mix, rate: float, seed: int, log: RequestLog) -> Iterator[None]:
    """Let clients ask about `rate` times a second, at random, and a few others seldom, as long as the context lasts."""
    chance, done = random.Random(seed), threading.Event()
    clients: list[tuple[Client, Callable[[], float]]] = []
    for number in range(OFTEN):
        client = Client(port, log, keeps=number % 2 == 0)
        clients.append((client, lambda: chance.expovariate(rate / OFTEN)))
    clients += [(Client(port, log), lambda: chance.uniform(0, SELDOM_S)) for _ in range(SELDOM)]

    def keep_asking(client: Client, pause: Callable[[], float]) -> None:
        while not done.wait(pause()):
            client.ask(mix.choose())
        client.close()

    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(keep_asking, *one) for one in clients]
        try:
            yield
        finally:
            done.set()
    for one in running:
        one.result()


def standing_client(port: int, log: RequestLog, kept: str = KEPT) -> Client:
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
            client.ask(ALIVE)
        client.close()
