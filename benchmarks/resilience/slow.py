"""Hold 200 connections open that send a byte a second, and see what the others lose, and how each of them ends.

Rounds without and with the slow ones alternate, and the ratio is taken within each round. A third of them never
ends its head, a third its body, and a third has declared a body of 400 MB. One that the service ends is replaced at
once, as long as a round lasts; in the end all are held without replacement until the service has ended them, or
patience has.
"""

import asyncio
import statistics
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.endurance import verdict
from benchmarks.endurance.checks import infer_request
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, now
from benchmarks.endurance.processes import rss_mb, worker
from benchmarks.results import Wanted
from benchmarks.servers import Server, running, service
from photoz.model.bundle import ModelBundle

LOADS = {"64s": (4, 64), "singles": (32, 1)}  # clients, cutouts
BYTE_EVERY = 1.0  # seconds
AGAIN = 0.2  # seconds before an attacker who was refused comes again
LARGE = 400_000_000
SETTLE = 1.0

STILL_OPEN = "still open"
ENDS = ("408", "413")  # too slow; or too large by what it declared, where the service takes less


@dataclass
class Seen:
    """How slow connections ended.

    Parameters
    ----------
    ends : list of (str, float, str)
        What it was slow in, how many seconds it lasted, and the answer that ended it.
    """

    ends: list[tuple[str, float, str]] = field(default_factory=list)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the answers, for each kind of slowness."""
        return {kind: dict(Counter(how for one, _, how in self.ends if one == kind)) for kind in SLOW}


def openings(path: str) -> dict[str, tuple[bytes, bytes]]:
    """Write what each kind of slow connection sends at once, and what it sends byte by byte."""
    whole = infer_request(path, 0, 1)
    head, _, body = whole.partition(b"\r\n\r\n")
    declared = head.rpartition(b"Content-Length: ")[0] + b"Content-Length: %d\r\n\r\n" % LARGE
    return {
        "head": (head + b"\r\nX-Slow: ", repeated(b"a")),
        "body": (head + b"\r\n\r\n", body),
        "large": (declared + body[:1000], repeated(b"\x00")),
    }


def repeated(one: bytes, n: int = 10_000) -> bytes:
    """Repeat a byte more often than anybody will wait for."""
    return one * n


SLOW = ("head", "body", "large")


async def drip(port: int, kind: str, parts: tuple[bytes, bytes], seen: Seen, stop: asyncio.Event) -> None:
    """Be slow once; note how it ended."""
    try:
        connection = await Connection.open(port)
    except Refused as error:
        seen.ends.append((kind, 0.0, f"refused: {error}"))
        await asyncio.sleep(AGAIN)
        return
    began = now()
    try:
        how = await _send_slowly(connection, parts, stop)
    except (Lost, NotHttp) as error:
        how = f"no answer: {error}"
    finally:
        connection.close()
    seen.ends.append((kind, now() - began, how))


async def _send_slowly(connection: Connection, parts: tuple[bytes, bytes], stop: asyncio.Event) -> str:
    await connection.send(parts[0])
    for byte in parts[1]:
        if connection.is_over():
            return str((await connection.receive(1.0)).status)
        if stop.is_set():
            break
        await connection.send(bytes([byte]))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), BYTE_EVERY)
    return STILL_OPEN


class Slow:
    """Slow connections, on a thread with a loop of its own: they cost next to nothing.

    Parameters
    ----------
    port, path
        Whom to keep busy.
    n : int
        How many at once.
    again : bool
        Whether one that was ended is replaced.
    """

    def __init__(self, port: int, path: str, n: int, *, again: bool) -> None:
        self.seen = Seen()
        self._port, self._parts, self._n, self._again = port, openings(path), n, again
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._all()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold them as long as the context lasts."""
        self._thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._loop.close()

    def wait(self, timeout: float) -> None:
        """Wait until all have ended, if they are not replaced."""
        self._thread.join(timeout)

    async def _all(self) -> None:
        kinds = [SLOW[number % len(SLOW)] for number in range(self._n)]
        await asyncio.gather(*(self._one(kind) for kind in kinds))

    async def _one(self, kind: str) -> None:
        await drip(self._port, kind, self._parts[kind], self.seen, self._stop)
        while self._again and not self._stop.is_set():
            await drip(self._port, kind, self._parts[kind], self.seen, self._stop)


def interleaved(server: Server, chosen: Namespace) -> tuple[dict[str, list[float]], Counter[str]]:
    """Measure each load without and with slow connections, in turns; give the ratios of each round."""
    ratios: dict[str, list[float]] = {name: [] for name in LOADS}
    answers: Counter[str] = Counter()
    for number in range(chosen.rounds):
        for name, (clients, images) in LOADS.items():
            rates = {}
            for side in ("without", "with") if number % 2 else ("with", "without"):
                slow = Slow(server.recipe.port, server.recipe.path, chosen.slow if side == "with" else 0, again=True)
                with slow.held():
                    threading.Event().wait(SETTLE)
                    rates[side] = server.load(clients, images, chosen.seconds)["images_per_s"]
                answers.update(how for _, _, how in slow.seen.ends)
            ratios[name].append(rates["with"] / rates["without"])
            print(
                f"round {number + 1}: {name}: {rates['without']:.0f} images/s, {rates['with']:.0f} with slow ones",
                flush=True,
            )
    return ratios, answers


def ended(server: Server, chosen: Namespace) -> Seen:
    """Hold slow connections, without replacing any, until the service has ended them or patience is over."""
    slow = Slow(server.recipe.port, server.recipe.path, chosen.slow, again=False)
    with slow.held():
        slow.wait(chosen.patience)
    return slow.seen


def figures_of(ratios: dict[str, list[float]], ends: Seen) -> dict[str, float]:
    """Sum up the rounds and the ends."""
    figures = {f"ratio_{name}": statistics.median(values) for name, values in ratios.items() if values}
    closed = [one for one in ends.ends if one[2] != STILL_OPEN]
    figures |= {"still_open": float(len(ends.ends) - len(closed)), "ended": float(len(closed))}
    figures["ended_rightly"] = sum(how in ENDS for _, _, how in ends.ends) / max(1, len(ends.ends))
    for kind in SLOW:
        if lasted := [seconds for one, seconds, _ in closed if one == kind]:
            figures[f"{kind}_median_s"], figures[f"{kind}_max_s"] = statistics.median(lasted), max(lasted)
    return figures


def wanted() -> tuple[Wanted, ...]:
    """Give the bars."""
    times = [
        verdict.told(f"slow in its {kind}: {what} time until ended, s", f"{kind}_{what}_s")
        for kind in SLOW
        for what in ("median", "max")
    ]
    return (
        *(
            verdict.at_least(f"goodput of {name} with slow connections, of that without", f"ratio_{name}", 0.95)
            for name in LOADS
        ),
        verdict.at_most("slow connections still open when patience was over", "still_open", 0),
        verdict.at_least("share of them that 408 or 413 ended", "ended_rightly", 1),
        verdict.told("growth of the worker's RSS, MB", "rss_growth_mb"),
        *times,
    )


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("slow", __doc__)
    parser.add_argument("--slow", type=int, default=200, help="connections")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds that slow connections are held in the end"
    )
    chosen = parser.parse_args(arguments)
    with running(service(chosen.bundle, ModelBundle.load(chosen.bundle).card.name)) as server:
        process = asyncio.run(worker(server))
        server.load(*LOADS["singles"], seconds=1.0)
        before = rss_mb([process])
        ratios, answers = interleaved(server, chosen)
        ends = ended(server, chosen)
        growth = rss_mb([process]) - before
    print(f"how slow connections ended in the rounds: {dict(answers)}\nand in the end: {ends.counts()}")
    kept: dict[str, Any] = {"ratios": ratios, "ends": ends.counts(), "answers_in_rounds": dict(answers)}
    return verdict.conclude("slow", chosen, figures_of(ratios, ends) | {"rss_growth_mb": growth}, wanted(), kept)
