"""Offer twice what the service can do: it must not do less for that, and what it refuses it must refuse at once.

Capacity is measured first, with clients that wait for their answers. Then requests come at random at twice that rate,
whether or not they can be met, from one process on the same cores: its processor time is told. The time of what is
served counts from when a request was due, that of a refusal from when the last byte of the request had left.
"""

import gc
import selectors
import time
from argparse import Namespace
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.connection import BadReply, HttpConnection
from benchmarks.endurance import verdict
from benchmarks.endurance.checks import infer_request
from benchmarks.endurance.client import now
from benchmarks.endurance.processes import family, processor_s
from benchmarks.load import arrivals
from benchmarks.results import Wanted
from benchmarks.servers import Recipe, Server, running, service
from photoz.model.bundle import ModelBundle

KINDS = {"singles": (1, 32, 512), "batches": (64, 4, 256)}  # cutouts, clients for the capacity, connections at most
TIMES = 2.0  # the capacity
BODIES = 4  # that differ
GRACE = 0.1  # seconds in which the last of them may still be sent
STRAGGLERS = 30.0  # seconds after the last request in which answers are still waited for
WARM_UP = 10.0  # seconds of it before those that count: the service then has as much in hand as it takes on


class Exchange(HttpConnection):
    """A connection that takes any answer for one, and says when its last byte was sent."""

    def __init__(self, port: int, selector: selectors.BaseSelector, content: bytes) -> None:
        super().__init__(port, selector, content)
        self.status, self.due = 0, 0.0
        self.sent_at: float | None = None

    def head(self) -> dict[str, str]:
        """Give the headers of the last reply, by their names in lower case."""
        lines = self.reply()[0].decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def is_reusable(self) -> bool:
        """Whether another request may go out on it."""
        return not self._outgoing and self.head().get("connection", "").lower() != "close"

    def begin(self, due: float) -> None:
        """Begin to send."""
        self.due, self.sent_at, self.status = due, None, 0
        self.send()

    def _push(self) -> None:
        super()._push()
        if not self._outgoing and self.sent_at is None:
            self.sent_at = now()

    def _take(self, received: bytes) -> bool:
        self._received = self._received + received if self._received else received
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._body_at, self.status = end + 4, int(self._received[9:12])
            self._needed = self._body_at + int(self.head()["content-length"])
        return len(self._received) >= self._needed


@dataclass
class Seen:
    """What became of the requests; times in seconds."""

    statuses: Counter[str] = field(default_factory=Counter)
    served_at: list[float] = field(default_factory=list)
    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    wrong: int = 0

    def note(self, one: Exchange, expected: bytes) -> None:
        """Take in an answer."""
        answered = now()
        self.statuses[str(one.status)] += 1
        if one.status == 200:
            self.served_at.append(answered)
            self.served_s.append(answered - one.due)
            self.wrong += one.reply()[1] != expected
        elif one.status == 429:
            self.refused_s.append(answered - one.sent_at if one.sent_at is not None else 0.0)  # before all was sent
            self.without_retry_after += "retry-after" not in one.head()


class Crowd:
    """Sends requests when they are due, each on a connection that is free, or on a new one."""

    def __init__(self, recipe: Recipe, contents: Sequence[tuple[bytes, bytes]], most: int) -> None:
        self._port, self._contents, self._most = recipe.port, contents, most
        self._selector = selectors.DefaultSelector()
        self._free: deque[Exchange] = deque()
        self._expected: dict[Exchange, bytes] = {}
        self.seen = Seen()

    def offer(self, due: deque[float], last: float) -> int:
        """Send a request at each of these times and wait for the answers; give how many were never sent."""
        busy = 0
        while (due and now() < last) or (busy and now() < last + STRAGGLERS):
            while due and due[0] <= now() < last and (one := self._take()) is not None:
                self.seen.late_s.append(now() - due[0])
                busy += self._begin(one, due.popleft())
            pause = max(due[0] - now(), 0.0) if due and now() < last else 0.1
            for key, events in self._selector.select(min(pause, 0.1)):
                busy -= self._advance(key.data, events)
        self.seen.statuses["no answer"] += busy
        return len(due)

    def close(self) -> None:
        """Close all connections."""
        for one in list(self._expected):
            self._end(one)
        self._selector.close()

    def _take(self) -> Exchange | None:
        if self._free:
            return self._free.popleft()
        if len(self._expected) >= self._most:
            return None
        content, expected = self._contents[len(self._expected) % len(self._contents)]
        try:
            one = Exchange(self._port, self._selector, content)
        except OSError as error:
            self.seen.statuses[f"no connection: {type(error).__name__}"] += 1
            return None
        self._expected[one] = expected
        return one

    def _begin(self, one: Exchange, due: float) -> int:
        try:
            one.begin(due)
            return 1
        except OSError:  # the server has closed it while it was free
            self.seen.statuses["closed before the request"] += 1
            self._end(one)
            return 0

    def _advance(self, one: Exchange, events: int) -> int:
        """Send and receive; give how many requests this ended."""
        is_free = one in self._free
        try:
            if not one.advance(events):
                return 0
        except (BadReply, OSError) as error:
            if is_free:
                self._free.remove(one)
            else:
                self.seen.statuses[f"lost: {error}"[:60]] += 1
            self._end(one)
            return int(not is_free)
        self.seen.note(one, self._expected[one])
        if one.is_reusable:
            self._free.append(one)
        else:
            self._end(one)
        return 1

    def _end(self, one: Exchange) -> None:
        self._expected.pop(one, None)
        one.close()


def measure(server: Server, kind: str, chosen: Namespace) -> tuple[dict[str, float], dict[str, int]]:
    """Measure the capacity, then offer twice as much; give the figures, and how often each status came."""
    n, clients, most = KINDS[kind]
    recipe = server.recipe
    before = server.load(clients=clients, images=n, seconds=chosen.seconds)["images_per_s"]
    contents = [_with_answer(recipe, n, first * n) for first in range(BODIES)]
    crowd = Crowd(recipe, contents, most)
    gc.disable()
    start = now() + WARM_UP
    end = start + chosen.seconds
    due = arrivals(TIMES * before / n, start - WARM_UP, end)
    offered = len(due)
    used, its = time.process_time(), processor_s(family(server))
    unsent = crowd.offer(due, end + GRACE)
    used, its = time.process_time() - used, processor_s(family(server)) - its
    gc.enable()
    crowd.close()
    after = server.load(clients=clients, images=n, seconds=chosen.seconds)["images_per_s"]
    print(f"{kind}: {dict(crowd.seen.statuses)}", flush=True)
    figures = figures_of(crowd.seen, n, start, end) | {"offered": offered, "never_sent": unsent}
    figures |= {"capacity_before": before, "capacity_after": after, "goodput_share": figures["goodput"] / before}
    figures |= {"generator_cores": used / (chosen.seconds + WARM_UP), "service_s": its}
    return figures, dict(crowd.seen.statuses)


def figures_of(seen: Seen, n: int, start: float, end: float) -> dict[str, float]:
    """Sum up what was seen between start and end; times in milliseconds."""
    served = np.array([when for when in seen.served_at if start <= when < end])
    failed = sum(count for what, count in seen.statuses.items() if what not in ("200", "429"))
    figures = {"goodput": n * len(served) / (end - start), "failed": failed, "wrong": seen.wrong}
    figures |= {"refused": len(seen.refused_s), "without_retry_after": seen.without_retry_after}
    for name, seconds in (("served", seen.served_s), ("refused", seen.refused_s), ("late", seen.late_s)):
        if seconds:
            figures[f"{name}_p50_ms"], figures[f"{name}_p99_ms"] = 1e3 * np.percentile(seconds, (50, 99))
    return {name: float(value) for name, value in figures.items()}


def wanted(kind: str) -> tuple[Wanted, ...]:
    """Give the bars for one kind of requests."""
    most, least, told = verdict.at_most, verdict.at_least, verdict.told
    bars = (
        (least, "goodput, of the capacity", "goodput_share", 0.9),
        (least, "refused with 429", "refused", 1),
        (most, "p99 of refusals from the last byte, ms", "refused_p99_ms", 50),
        (most, "refusals without Retry-After", "without_retry_after", 0),
        (most, "requests lost, or answered otherwise", "failed", 0),
        (most, "answers with other values", "wrong", 0),
        (most, "requests never sent: all connections waited", "never_sent", 0),
    )
    told_too = (
        "capacity_before",
        "capacity_after",
        "goodput",
        "served_p50_ms",
        "served_p99_ms",
        "late_p99_ms",
        "generator_cores",
    )
    made = [make(f"{kind}: {what}", f"{kind}_{column}", limit) for make, what, column, limit in bars]
    return (*made, *(told(f"{kind}: {column}", f"{kind}_{column}") for column in told_too))


def _with_answer(recipe: Recipe, n: int, first: int) -> tuple[bytes, bytes]:
    """Write a request, and ask for its answer while nobody else does."""
    content = infer_request(recipe.path, first, n, "pdf")
    with selectors.DefaultSelector() as selector:
        one = Exchange(recipe.port, selector, content)
        one.begin(now())
        while not any([key.data.advance(events) for key, events in selector.select(STRAGGLERS)]):
            pass
        answer = one.reply()[1]
        one.close()
    return content, answer


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("overload", __doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    chosen = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    statuses: dict[str, dict[str, int]] = {}
    with running(service(chosen.bundle, ModelBundle.load(chosen.bundle).card.name)) as server:
        for kind in KINDS:
            found, statuses[kind] = measure(server, kind, chosen)
            figures |= {f"{kind}_{name}": value for name, value in found.items()}
    bars = [bar for kind in KINDS for bar in wanted(kind)]
    return verdict.conclude("overload", chosen, figures, bars, {"statuses": statuses})
