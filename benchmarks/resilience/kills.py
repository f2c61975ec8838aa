"""Kill the process that predicts, again and again, under clients of the SDK: no row may be missing, doubled or wrong.

Some callers use `predict_parts` on many cutouts, others `predict` on a few, with the SDK's own retries. What they get
is held against a run of the same calls before the first kill. A raw client measures how long nobody answers.
"""

import asyncio
import random
import signal
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from benchmarks.cutouts import cutouts
from benchmarks.endurance import verdict
from benchmarks.endurance.checks import TOLERANCE, Good, Reference, WrongAnswer
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, now
from benchmarks.endurance.processes import worker
from benchmarks.servers import Server, running, service
from photoz.model.bundle import ModelBundle
from photoz_client import PhotozClient, PhotozError, Prediction
from photoz_client._run import MODEL_CHANGED

FEW = 64  # cutouts in a call of `predict`
RETRY = 0.01  # seconds between tries of the raw client
GIVE_UP = 60.0
CALM = (1.0, 3.0)  # seconds from an answer to the next kill

Part = tuple[npt.NDArray[np.integer], Prediction]

WANTED = (
    verdict.at_least("kills", "kills", 1),
    verdict.at_most("rows not predicted", "rows_missing", 0),
    verdict.at_most("rows predicted more than once", "rows_doubled", 0),
    verdict.at_most("rows with other values than without kills", "rows_wrong", 0),
    verdict.at_most("calls that raised", "calls_failed", 0),
    verdict.at_least("rows predicted under kills", "rows", 1),
    verdict.at_most("median time from a kill to the next answer, s", "back_median_s", 3.0),
    verdict.at_most("longest time from a kill to the next answer, s", "back_max_s", 3.0),
    verdict.told("largest difference from the run without kills", "largest_difference"),
    verdict.told("longest call, s", "longest_call_s"),
)


@dataclass
class Seen:
    """What the callers got; shared by their threads.

    `rows_cut` of the missing rows are missing because the SDK does not join rows of two models (`cut` calls raised so).
    """

    calls: int = 0
    rows: int = 0
    missing: int = 0
    doubled: int = 0
    wrong: int = 0
    difference: float = 0.0
    longest: float = 0.0
    rows_cut: int = 0
    raised: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, parts: Iterable[Part], expected: Prediction, took: Callable[[], float]) -> None:
        """Take in one call: all its parts, as far as they came."""
        n = len(expected.z_mean)
        times, wrong, largest, raised = np.zeros(n, int), 0, 0.0, ""
        try:
            for rows, prediction in parts:
                np.add.at(times, rows, 1)
                off = differences(prediction, expected, rows)
                wrong, largest = wrong + int((~(off <= TOLERANCE)).sum()), float(np.max([largest, *off]))
        except PhotozError as error:
            raised = f"{type(error).__name__}: {error}"[:300]
        missing = int((times == 0).sum())
        with self.lock:
            self.calls, self.rows, self.wrong = self.calls + 1, self.rows + int((times > 0).sum()), self.wrong + wrong
            self.missing, self.doubled = self.missing + missing, self.doubled + int((times > 1).sum())
            self.difference, self.longest = max(self.difference, largest), max(self.longest, took())
            self.raised += [raised] if raised else []
            self.rows_cut += missing if MODEL_CHANGED in raised else 0

    @property
    def cut(self) -> int:
        """How many calls raised because another model answered."""
        return sum(MODEL_CHANGED in words for words in self.raised)


def differences(prediction: Prediction, expected: Prediction, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Give how far each row is from what is expected: infinitely far if it is another galaxy's, or lacks a PDF."""
    assert expected.pdf is not None  # it was asked for
    if prediction.pdf is None or len(prediction.z_mean) != len(rows):
        return np.full(len(rows), np.inf)
    off = np.abs(prediction.pdf - expected.pdf[rows]).max(axis=1)
    off = np.maximum(off, np.abs(prediction.z_mean - expected.z_mean[rows]))
    same = (prediction.object_id == expected.object_id[rows]) & (prediction.flags == expected.flags[rows])
    return np.where(same, off, np.inf)


class Counting(httpx.BaseTransport):
    """Counts what single attempts bring, which the SDK's retries hide."""

    def __init__(self, seen: Seen) -> None:
        self._inner, self._seen = httpx.HTTPTransport(), seen

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        try:
            response = self._inner.handle_request(request)
        except httpx.HTTPError as error:
            self._count(type(error).__name__)
            raise
        self._count(str(response.status_code))
        return response

    def close(self) -> None:
        """Close its connections."""
        self._inner.close()

    def _count(self, what: str) -> None:
        with self._seen.lock:
            self._seen.attempts[what] += 1


def call(client: PhotozClient, n: int) -> Iterable[Part]:
    """Predict n cutouts: a few at once, many part by part."""
    images, ebv = cutouts(n)
    names = [f"galaxy {number}" for number in range(n)]
    if n > FEW:
        return client.predict_parts(images, ebv=ebv, object_id=names, pdf=True)
    return _at_once(client, images, ebv, names)


def _at_once(client: PhotozClient, images: Any, ebv: Any, names: list[str]) -> Iterable[Part]:
    prediction = client.predict(images, ebv=ebv, object_id=names, pdf=True)
    yield np.arange(len(prediction.z_mean)), prediction


def keep_calling(url: str, expected: Prediction, seen: Seen, done: threading.Event) -> None:
    """Call until it is enough."""
    with httpx.Client(transport=Counting(seen)) as http, PhotozClient(url, http=http) as client:
        while not done.is_set():
            began = now()
            seen.note(call(client, len(expected.z_mean)), expected, lambda began=began: now() - began)  # type: ignore[misc]


async def time_until_answered(port: int, good: Good, since: float) -> float:
    """Ask until a right answer comes; give the seconds since then."""
    while now() < since + GIVE_UP:
        try:
            connection = await Connection.open(port)
        except Refused:
            await asyncio.sleep(RETRY)
            continue
        try:
            good.check(await connection.ask(good.content, GIVE_UP))
            return now() - since
        except (Lost, NotHttp, WrongAnswer):
            await asyncio.sleep(RETRY)
        finally:
            connection.close()
    return GIVE_UP


async def kill_again_and_again(server: Server, good: Good, chosen: Namespace) -> list[float]:
    """Kill the worker as often as is asked for; give the seconds until it answered again."""
    chance = random.Random(chosen.seed)
    times = []
    for number in range(chosen.kills):
        await asyncio.sleep(chance.uniform(*CALM))
        victim = await worker(server)
        killed = now()
        victim.send_signal(signal.SIGKILL)
        times.append(await time_until_answered(server.recipe.port, good, killed))
        print(f"kill {number + 1}: process {victim.pid}; answered again after {times[-1]:.2f} s", flush=True)
    return times


def stress(server: Server, chosen: Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Let callers call while the worker is killed; give the figures and what else is to be kept."""
    url = f"http://127.0.0.1:{server.recipe.port}"
    with PhotozClient(url) as client:
        expected = {n: next(iter(_joined(call(client, n)))) for n in (FEW, chosen.rows)}
    good = asyncio.run(Reference.ask(server.recipe.port, server.recipe.path)).infer(1)
    seen, done = Seen(), threading.Event()
    callers = [
        threading.Thread(target=keep_calling, args=(url, expected[chosen.rows if number % 2 else FEW], seen, done))
        for number in range(chosen.callers)
    ]
    for caller in callers:
        caller.start()
    try:
        times = asyncio.run(kill_again_and_again(server, good, chosen))
    finally:
        done.set()
        for caller in callers:
            caller.join()
    figures = {
        "kills": len(times),
        "rows": seen.rows,
        "rows_missing": seen.missing,
        "rows_doubled": seen.doubled,
        "rows_wrong": seen.wrong,
        "calls_failed": len(seen.raised),
        "back_median_s": float(np.median(times)),
        "back_max_s": max(times),
        "largest_difference": seen.difference,
        "longest_call_s": seen.longest,
    }
    kept = {"calls": seen.calls, "attempts": dict(seen.attempts), "raised": seen.raised[:50], "back_s": times}
    return figures, kept


def _joined(parts: Iterable[Part]) -> Iterable[Prediction]:
    from photoz_client._prediction import join

    yield join([prediction for _, prediction in parts])


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("kills", __doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--callers", type=int, default=4, help="threads, each with a client of its own")
    parser.add_argument("--rows", type=int, default=1000, help="cutouts in a call of predict_parts")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}, {chosen.kills} kills, {chosen.callers} callers")
    with running(service(chosen.bundle, ModelBundle.load(chosen.bundle).card.name)) as server:
        figures, kept = stress(server, chosen)
    print(f"\n{kept['calls']} calls; attempts of the SDK: {kept['attempts']}")
    print("\n".join(kept["raised"][:10]))
    return verdict.conclude("kills", chosen, figures, WANTED, kept)
