"""Hold 200 connections open that send a byte a second: what other clients lose by it, and how each of them ends.

Rounds without and with the slow ones alternate, and the ratio is taken within each round. A third of them never
finishes its head, a third its body, and a third has declared a body of 400 MB. During a round, one that the service
ends is replaced at once; in the end all are held without replacement until the service has ended them, or until
--patience is over.
"""

import argparse
import statistics
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.messages import infer_request
from benchmarks.harness.processes import Server, rss_mb, running, service
from benchmarks.harness.results import at_least, at_most, conclude, reported

LOADS = {"64s": (4, 64), "singles": (32, 1)}  # clients, cutouts
BYTE_EVERY = 1.0  # seconds
RETRY = 0.2  # seconds until a slow client that was refused comes again
LARGE = 400_000_000
SETTLE = 1.0
ENDLESS = 10_000  # bytes: more than anyone waits for

STILL_OPEN, CLOSED = "still open", "closed"
# A server that is still reading the head may close the connection without an answer; a body has to get one: too slow,
# or too large by what it declared.
ALLOWED_ENDS = {"head": ("408", CLOSED), "body": ("408",), "large": ("408", "413")}
KINDS = tuple(ALLOWED_ENDS)

THRESHOLDS = (
    *(at_least(f"goodput of {name} with slow connections, of that without", f"ratio_{name}", 0.95) for name in LOADS),
    at_most("slow connections still open when patience was over", "still_open", 0),
    at_least("share of them that 408 or 413 ended, or a close while the head was read", "ended_rightly", 1),
    reported("growth of the worker's RSS, MB", "rss_growth_mb"),
    *(
        reported(f"slow {kind}: {what} time until ended, s", f"{kind}_{what}_s")
        for kind in KINDS
        for what in ("median", "max")
    ),
)


class End(NamedTuple):
    """The end of a slow connection: what was slow, how long it lasted, and the status or word that ended it."""

    kind: str
    seconds: float
    how: str


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slow", type=int, default=200, help="connections")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds that they are held in the end")


def openings(path: str) -> dict[str, tuple[bytes, bytes]]:
    """Write what each kind of slow connection sends at once, and what it sends byte by byte."""
    head, _, body = infer_request(path, *cutouts(1)).partition(b"\r\n\r\n")
    declared = head.rpartition(b"Content-Length: ")[0] + b"Content-Length: %d\r\n\r\n" % LARGE
    return {
        "head": (head + b"\r\nX-Slow: ", b"a" * ENDLESS),
        "body": (head + b"\r\n\r\n", body),
        "large": (declared + body[:1000], bytes(ENDLESS)),
    }


class SlowClients:
    """Slow connections on a thread each.

    Parameters
    ----------
    n : int
        How many at once.
    replace : bool
        Whether one that has ended is replaced.
    """

    def __init__(self, server: Server, n: int, *, replace: bool) -> None:
        self.ends: list[End] = []
        self._port, self._parts, self._n, self._replace = server.recipe.port, openings(server.recipe.path), n, replace
        self._stop = threading.Event()

    @contextmanager
    def held(self, patience: float = 0.0) -> Iterator[None]:
        """Hold them as long as the context lasts, and then for `patience` or until all have ended."""
        with ThreadPoolExecutor(max(self._n, 1)) as pool:
            running = [pool.submit(self._keep_dripping, KINDS[number % len(KINDS)]) for number in range(self._n)]
            try:
                yield
                end = now() + patience
                while now() < end and not all(one.done() for one in running):
                    self._stop.wait(0.1)
            finally:
                self._stop.set()
        for one in running:
            one.result()

    def counts(self) -> dict[str, dict[str, int]]:
        """Count how they ended, for each kind."""
        return {kind: dict(Counter(end.how for end in self.ends if end.kind == kind)) for kind in KINDS}

    def _keep_dripping(self, kind: str) -> None:
        self._drip(kind)
        while self._replace and not self._stop.is_set():
            self._drip(kind)

    def _drip(self, kind: str) -> None:
        began, how = now(), STILL_OPEN
        try:
            connection = Connection(self._port)
        except Refused as error:
            self.ends.append(End(kind, 0.0, f"refused: {error}"))
            self._stop.wait(RETRY)
            return
        opening, rest = self._parts[kind]
        try:
            connection.send(opening)
            for byte in rest:
                if connection.is_over():
                    how = _ending(connection)
                    break
                if self._stop.is_set():
                    break
                connection.send(bytes([byte]))
                self._stop.wait(BYTE_EVERY)
        except Lost:
            how = _ending(connection)
        connection.close()
        self.ends.append(End(kind, now() - began, how))


def _ending(connection: Connection) -> str:
    """Return the status that a connection ended with, or a word."""
    try:
        return str(connection.receive(1.0).status)
    except Lost:
        return CLOSED
    except NotHttp as error:
        return str(error)


def interleaved(server: Server, options: argparse.Namespace) -> tuple[dict[str, list[float]], Counter[str]]:
    """Measure each load without and with slow connections, in turns; return the ratios of each round."""
    ratios: dict[str, list[float]] = {name: [] for name in LOADS}
    ends: Counter[str] = Counter()
    for number in range(options.rounds):
        for name, (clients, images) in LOADS.items():
            rates = {}
            for side in ("without", "with") if number % 2 else ("with", "without"):
                slow = SlowClients(server, options.slow if side == "with" else 0, replace=True)
                with slow.held():
                    threading.Event().wait(SETTLE)
                    rates[side] = server.load(clients, images, options.seconds)["images_per_s"]
                ends.update(end.how for end in slow.ends)
            ratios[name].append(rates["with"] / rates["without"])
            found = f"{rates['without']:.0f} images/s, {rates['with']:.0f} with slow ones"
            print(f"round {number + 1}: {name}: {found}", flush=True)
    return ratios, ends


def figures_of(ratios: Mapping[str, Sequence[float]], ends: Sequence[End]) -> dict[str, float]:
    """Sum up the rounds and the ends."""
    figures = {f"ratio_{name}": statistics.median(values) for name, values in ratios.items() if values}
    closed = [end for end in ends if end.how != STILL_OPEN]
    figures |= {"still_open": float(len(ends) - len(closed)), "ended": float(len(closed))}
    figures["ended_rightly"] = sum(end.how in ALLOWED_ENDS[end.kind] for end in ends) / max(1, len(ends))
    for kind in KINDS:
        if lasted := [end.seconds for end in closed if end.kind == kind]:
            figures[f"{kind}_median_s"], figures[f"{kind}_max_s"] = statistics.median(lasted), max(lasted)
    return figures


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        worker = server.worker()
        server.load(*LOADS["singles"], seconds=1.0)
        before = rss_mb([worker])
        ratios, ends_in_rounds = interleaved(server, options)
        slow = SlowClients(server, options.slow, replace=False)
        with slow.held(options.patience):
            pass
        growth = rss_mb([worker]) - before
    print(f"how slow connections ended in the rounds: {dict(ends_in_rounds)}\nand in the end: {slow.counts()}")
    kept = {"ratios": ratios, "ends": slow.counts(), "ends_in_rounds": ends_in_rounds}
    return conclude("slow", options, figures_of(ratios, slow.ends) | {"rss_growth_mb": growth}, THRESHOLDS, kept)
