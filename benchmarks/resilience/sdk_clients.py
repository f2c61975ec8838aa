"""Clients of the SDK, with its retries, whose rows are compared with those of an undisturbed call."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.http_client import now
from benchmarks.harness.threads import background
from benchmarks.resilience.clients import Answer
from benchmarks.resilience.known_answers import TOLERANCE
from photoz_client import PhotozClient, PhotozError, Prediction
from photoz_client._parts import MODEL_CHANGED

FEW = 64  # cutouts in a call of `predict`; more go to `predict_parts`
SDK = "sdk"  # the kind of its answers

Part = tuple[npt.NDArray[np.integer], Prediction]


@dataclass
class SdkLog:
    """What the calls brought; shared by threads."""

    calls: int = 0
    rows: int = 0
    missing: int = 0
    doubled: int = 0
    wrong: int = 0
    rows_cut: int = 0  # of the missing ones, since the SDK does not join rows of two models
    difference: float = 0.0
    longest_s: float = 0.0
    raised: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cut(self) -> int:
        """How many calls raised because another model answered."""
        return sum(MODEL_CHANGED in text for text in self.raised)

    def note(self, parts: Iterable[Part], expected: Prediction) -> None:
        """Make a call, and compare all its parts, as far as they come, with what is expected."""
        began, n = now(), len(expected.z_mean)
        times, wrong, largest, raised = np.zeros(n, int), 0, 0.0, ""
        try:
            for rows, prediction in parts:
                np.add.at(times, rows, 1)
                off = differences(prediction, expected, rows)
                wrong, largest = wrong + int((~(off <= TOLERANCE)).sum()), float(np.max([largest, *off]))
                self.answers.append(Answer(began, now(), SDK, prediction.model))
        except PhotozError as error:
            raised = f"{type(error).__name__}: {error}"[:300]
        missing = int((times == 0).sum())
        with self.lock:
            self.calls, self.rows, self.wrong = self.calls + 1, self.rows + n - missing, self.wrong + wrong
            self.missing, self.doubled = self.missing + missing, self.doubled + int((times > 1).sum())
            self.difference, self.longest_s = max(self.difference, largest), max(self.longest_s, now() - began)
            self.raised += [raised] if raised else []
            self.rows_cut += missing if MODEL_CHANGED in raised else 0


def differences(prediction: Prediction, expected: Prediction, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return how far each row is from the expected one: infinitely if it is another galaxy's, or lacks a PDF."""
    assert expected.pdf is not None  # it was asked for
    if prediction.pdf is None or len(prediction.z_mean) != len(rows):
        return np.full(len(rows), np.inf)
    off = np.abs(prediction.pdf - expected.pdf[rows]).max(axis=1)
    off = np.maximum(off, np.abs(prediction.z_mean - expected.z_mean[rows]))
    same = (prediction.object_id == expected.object_id[rows]) & (prediction.flags == expected.flags[rows])
    return np.where(same, off, np.inf)


def galaxies(n: int) -> dict[str, Any]:
    """Return what a call takes for n cutouts."""
    images, ebv = cutouts(n)
    return {"images": images, "ebv": ebv, "object_id": [f"galaxy {number}" for number in range(n)], "pdf": True}


def predict(client: PhotozClient, n: int) -> Iterable[Part]:
    """Predict n cutouts: a few with `predict`, many with `predict_parts`."""
    if n > FEW:
        yield from client.predict_parts(**galaxies(n))
    else:
        yield np.arange(n), client.predict(**galaxies(n))


@contextlib.contextmanager
def sdk_load(port: int, calls: Sequence[tuple[int, float]], log: SdkLog) -> Iterator[None]:
    """Let clients call, each so many cutouts with so many seconds between two calls, as long as the context lasts."""
    url, done = f"http://127.0.0.1:{port}", threading.Event()
    with PhotozClient(url) as client:
        expected = {n: client.predict(**galaxies(n)) for n in {n for n, _ in calls}}

    def keep_calling(n: int, pause: float) -> None:
        with PhotozClient(url) as client:
            while not done.wait(pause):
                log.note(predict(client, n), expected[n])

    with background([partial(keep_calling, *call) for call in calls], done):
        yield
