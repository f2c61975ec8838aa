"""Load the service for a long time below its capacity: no error, no growth, no slowing down.

The capacity for a mix of requests is measured first: single cutouts, 64 at once, files, and scrapes of the metrics.
Then that mix comes at random (Poisson) at a share of that rate; each answer is held against the reference, and its time
counts from when the request was due. The memory is that of all processes of the service.
"""

import asyncio
import random
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.endurance import verdict
from benchmarks.endurance.checks import Good, Reference, WrongAnswer, metrics_scrape
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, now
from benchmarks.endurance.processes import errors_in, family, log_of, rss_mb, slope
from benchmarks.load import arrivals
from benchmarks.servers import Recipe, Server, running, service
from photoz.model.bundle import ModelBundle

SHARE = 0.7  # of the capacity
CONNECTIONS = 64
IDLE = 30.0  # seconds after which a client closes a connection that it has not used: the service has to keep it so long
CLOSED_LOOP = 16  # connections that measure the capacity
WARM_UP = 180.0  # seconds, at most a quarter of the run
WINDOW = 300.0  # seconds at both ends that are compared, at most a third of what follows the warm-up
STEP = 30.0  # seconds of a row of the time series
SAMPLE = 5.0  # seconds between two looks at the memory

WANTED = (
    verdict.at_most("requests without the right answer", "failed", 0),
    verdict.at_least("requests answered rightly", "right", 1),
    verdict.at_most("slope of the memory after warm-up, MB/hour", "slope_mb_per_hour", 1.0),
    verdict.told("... its standard error, MB/hour", "slope_error_mb_per_hour"),
    verdict.at_most("p99 of the last window, of that of the first", "p99_ratio", 1.2),
    verdict.told("p99 of the first window, ms", "p99_first_ms"),
    verdict.told("p99 of the last window, ms", "p99_last_ms"),
    verdict.told("RSS after warm-up, MB", "rss_warm_mb"),
    verdict.told("RSS at the end, MB", "rss_end_mb"),
    verdict.told("capacity for this mix, requests/s", "capacity"),
    verdict.told("offered, requests/s", "rate"),
    verdict.told("largest difference from the reference", "largest_difference"),
    verdict.told("tracebacks and errors in the service's log", "log_errors"),
)


@dataclass
class Seen:
    """What became of the requests; times in seconds since the start."""

    timed: list[tuple[float, float]] = field(default_factory=list)  # when it was due, how long it took from then
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # when, MB
    difference: float = 0.0


class Mix:
    """Good requests in the shares of a day: most of them single cutouts, some 64, few files, seldom the metrics."""

    def __init__(self, reference: Reference, seed: int) -> None:
        self._chance = random.Random(seed)
        self._goods = (
            *((70, reference.infer(1, first)) for first in range(0, 64, 8)),
            *((10, reference.infer(64, first)) for first in range(4)),
            *((5, reference.file(4, first)) for first in range(0, 64, 16)),
            (5, metrics_scrape()),
        )

    def choose(self) -> Good:
        """Draw one."""
        weights, goods = zip(*self._goods, strict=True)
        good: Good = self._chance.choices(goods, weights)[0]
        return good


class Crowd:
    """Connections that are kept; a request takes one that is free, and waits for one if none is."""

    def __init__(self, port: int, n: int, seen: Seen) -> None:
        self._port, self._seen = port, seen
        self._free: asyncio.LifoQueue[tuple[Connection | None, float]] = asyncio.LifoQueue()
        for _ in range(n):
            self._free.put_nowait((None, 0.0))

    async def ask(self, good: Good, due: float, start: float) -> None:
        """Ask, and note what came."""
        connection, used = await self._free.get()
        idle = now() - used
        try:
            if connection is None or connection.is_over() or idle > IDLE:
                connection, idle = await self._fresh(connection), 0.0
            reply = await connection.ask(good.content)
            self._seen.timed.append((due - start, now() - due))
            self._seen.difference = max(self._seen.difference, good.check(reply))
            self._seen.kinds[good.kind] += 1
            if reply.closes:
                connection.close()
                connection = None
        except (Lost, Refused, NotHttp, WrongAnswer, LookupError, ValueError) as error:
            self._seen.failures.append(
                f"{due - start:.1f} s: {good.kind}: {type(error).__name__}: {error}; idle {idle:.3f} s"[:300]
            )
            connection = None
        finally:
            self._free.put_nowait((connection, now()))

    async def _fresh(self, old: Connection | None) -> Connection:
        if old is not None:
            old.close()
        return await Connection.open(self._port)


async def capacity(recipe: Recipe, mix: Mix, seconds: float) -> float:
    """Measure how many requests per second clients get answered who wait for their answers."""
    seen = Seen()
    crowd, end = Crowd(recipe.port, CLOSED_LOOP, seen), now() + seconds

    async def keep_asking() -> None:
        while now() < end:
            await crowd.ask(mix.choose(), now(), 0.0)

    await asyncio.gather(*(keep_asking() for _ in range(CLOSED_LOOP)))
    if seen.failures:
        raise WrongAnswer(f"while the capacity was measured: {seen.failures[0]}")
    return len(seen.timed) / seconds


async def soak(server: Server, chosen: Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure the capacity, then load below it; give the figures and what else is to be kept."""
    recipe, log = server.recipe, log_of(server)
    mix = Mix(await Reference.ask(recipe.port, recipe.path), chosen.seed)
    most = await capacity(recipe, mix, chosen.capacity_seconds)
    seen, start = Seen(), now()
    crowd, end = Crowd(recipe.port, CONNECTIONS, seen), start + chosen.seconds
    sampler = asyncio.create_task(_sample(server, seen, start, end))
    asked: set[asyncio.Task[None]] = set()
    for due in arrivals(SHARE * most, start, end):
        await asyncio.sleep(max(0.0, due - now()))
        task = asyncio.create_task(crowd.ask(mix.choose(), due, start))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(sampler, *asked)
    figures = figures_of(seen, chosen.seconds) | {"capacity": most, "rate": SHARE * most}
    kept = {"series": series(seen, chosen.seconds), "kinds": dict(seen.kinds), "failures": seen.failures[:100]}
    return figures | {"log_errors": errors_in(log())}, kept


async def _sample(server: Server, seen: Seen, start: float, end: float) -> None:
    told = STEP
    while now() < end:
        await asyncio.sleep(SAMPLE)
        seen.memory.append((now() - start, rss_mb(family(server))))
        if now() - start > told:
            told += STEP
            print(f"{seen.memory[-1][0]:.0f} s: {_row(seen, told - 2 * STEP, told - STEP)}", flush=True)


def series(seen: Seen, seconds: float) -> list[dict[str, float]]:
    """Give a row for each 30 s."""
    return [_row(seen, at, at + STEP) for at in np.arange(0.0, seconds, STEP)]


def _row(seen: Seen, begin: float, end: float) -> dict[str, float]:
    took = [one for due, one in seen.timed if begin <= due < end]
    memory = [rss for when, rss in seen.memory if begin <= when < end]
    p50, p99 = 1e3 * np.percentile(took, (50, 99)) if took else (np.nan, np.nan)
    row = {"at_s": begin, "rss_mb": float(np.mean(memory)) if memory else np.nan, "p50_ms": p50, "p99_ms": p99}
    return {name: round(float(value), 2) for name, value in row.items()} | {"requests": len(took)}


def figures_of(seen: Seen, seconds: float) -> dict[str, float]:
    """Sum up a run of so many seconds."""
    warm = min(WARM_UP, seconds / 4)
    window = min(WINDOW, (seconds - warm) / 3)
    figures = {"failed": len(seen.failures), "right": sum(seen.kinds.values()), "largest_difference": seen.difference}
    memory = [(when / 3600, rss) for when, rss in seen.memory if when >= warm]
    if len(memory) > 2:
        figures["slope_mb_per_hour"], figures["slope_error_mb_per_hour"] = slope(*zip(*memory, strict=True))
        figures |= {"rss_warm_mb": memory[0][1], "rss_end_mb": memory[-1][1]}
    for name, begin in (("first", warm), ("last", seconds - window)):
        took = [one for due, one in seen.timed if begin <= due < begin + window]
        figures[f"p99_{name}_ms"] = 1e3 * float(np.percentile(took, 99)) if took else np.inf
    return figures | {"p99_ratio": figures["p99_last_ms"] / figures["p99_first_ms"]}


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("soak", __doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--capacity-seconds", type=float, default=15.0)
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}, {chosen.seconds:g} s at {SHARE:g} of the capacity")
    with running(service(chosen.bundle, ModelBundle.load(chosen.bundle).card.name)) as server:
        figures, kept = asyncio.run(soak(server, chosen))
    print("\n".join(kept["failures"][:10]))
    return verdict.conclude("soak", chosen, figures, WANTED, kept)
