"""Hold 200 connections open that send a byte a second: what other clients lose by it, and how each of them ends.

Rounds without and with the slow ones alternate, and the ratio is taken within each round, which is shorter than the
service's time limits. A third of them never finishes its head, a third its body, and a third has declared a body of
400 MB. In the end they are held until the service has ended them, or until --patience is over.
"""

import argparse
import contextlib
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.messages import infer_request
from benchmarks.harness.processes import Server, rss_mb, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import background

LOADS = {"64s": (4, 64), "singles": (32, 1)}  # clients, cutouts
BYTE_EVERY = 1.0  # seconds
LARGE = 400_000_000
SETTLE = 1.0
ENDLESS = 10_000  # bytes: more than are sent in any patience

STILL_OPEN, CLOSED = "still open", "closed"
# A server that is still reading the head may close the connection without an answer; a body has to get one: too slow,
# or too large by what it declared.
ALLOWED_ENDS = {"head": ("408", CLOSED), "body": ("408",), "large": ("408", "413")}
KINDS = tuple(ALLOWED_ENDS)


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


def results_of(ratios: Mapping[str, Sequence[float]], ends: Sequence[End], growth_mb: float) -> list[Result]:
    """Sum up the rounds and the ends."""
    closed = [end for end in ends if end.how != STILL_OPEN]
    rightly = sum(end.how in ALLOWED_ENDS[end.kind] for end in ends) / max(1, len(ends))
    results = []
    for name, values in ratios.items():
        what = f"goodput of {name} with slow connections, of that without"
        results.append(at_least(what, statistics.median(values) if values else None, 0.95))
    results += [
        at_most("slow connections still open when patience was over", len(ends) - len(closed), 0),
        at_least("share of them that 408 or 413 ended, or a close while the head was read", rightly, 1),
        reported("growth of the worker's RSS, MB", growth_mb),
    ]
    for kind in KINDS:
        lasted = [end.seconds for end in closed if end.kind == kind] or [float("nan")]
        results.append(reported(f"slow {kind}: median time until ended, s", statistics.median(lasted)))
        results.append(reported(f"slow {kind}: longest time until ended, s", max(lasted)))
    return results


def openings(path: str) -> dict[str, tuple[bytes, bytes]]:
    """Write what each kind of slow connection sends at once, and what it sends byte by byte."""
    head, _, body = infer_request(path, *cutouts(1)).partition(b"\r\n\r\n")
    declared = head.rpartition(b"Content-Length: ")[0] + b"Content-Length: %d\r\n\r\n" % LARGE
    return {
        "head": (head + b"\r\nX-Slow: ", b"a" * ENDLESS),
        "body": (head + b"\r\n\r\n", body),
        "large": (declared + body[:1000], bytes(ENDLESS)),
    }


@contextlib.contextmanager
def slow_clients(server: Server, n: int, patience: float = 0.0) -> Iterator[list[End]]:
    """Hold n slow connections as long as the context lasts, and then for `patience` or until all have ended."""
    ends, stop, parts = list[End](), threading.Event(), openings(server.recipe.path)

    def drip(kind: str) -> None:
        began = now()
        try:
            with contextlib.closing(Connection(server.recipe.port)) as connection:
                how = send_slowly(connection, *parts[kind], stop)
        except Refused as error:
            how = f"refused: {error}"
        ends.append(End(kind, now() - began, how))

    with background([partial(drip, KINDS[number % len(KINDS)]) for number in range(n)], stop) as running:
        yield ends
        end = now() + patience
        while now() < end and not all(one.done() for one in running):
            time.sleep(0.1)


def send_slowly(connection: Connection, opening: bytes, rest: bytes, stop: threading.Event) -> str:
    """Send at once and then byte by byte; return the status that ended it, or a word."""
    with contextlib.suppress(Lost):  # it has ended: there may still be an answer
        connection.send(opening)
        for byte in rest:
            if stop.is_set() or connection.is_over():
                break
            connection.send(bytes([byte]))
            stop.wait(BYTE_EVERY)
    try:
        return str(connection.receive(1.0).status) if connection.is_over() else STILL_OPEN
    except Lost:
        return CLOSED
    except NotHttp as error:
        return str(error)


def interleaved(server: Server, options: argparse.Namespace) -> dict[str, list[float]]:
    """Measure each load without and with slow connections, in turns; return the ratios of each round."""
    ratios: dict[str, list[float]] = {name: [] for name in LOADS}
    for number in range(options.rounds):
        for name, (clients, images) in LOADS.items():
            rates = {}
            for side in ("without", "with") if number % 2 else ("with", "without"):
                with slow_clients(server, options.slow if side == "with" else 0):
                    time.sleep(SETTLE)
                    rates[side] = server.load(clients, images, options.seconds)["images_per_s"]
            ratios[name].append(rates["with"] / rates["without"])
            found = f"{rates['without']:.0f} images/s, {rates['with']:.0f} with slow ones"
            print(f"round {number + 1}: {name}: {found}", flush=True)
    return ratios


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        worker = server.worker()
        server.load(*LOADS["singles"], seconds=1.0)
        before = rss_mb([worker])
        ratios = interleaved(server, options)
        with slow_clients(server, options.slow, options.patience) as ends:
            pass
        growth = rss_mb([worker]) - before
    counts = {kind: dict(Counter(end.how for end in ends if end.kind == kind)) for kind in KINDS}
    print(f"how slow connections ended: {counts}")
    return conclude(options, results_of(ratios, ends, growth), {"ratios": ratios, "ends": counts})
