"""What callers saw while the version of a service changed: when it did, and what happened then."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks.endurance.callers import Seen
from benchmarks.endurance.drain import LONG

EXTRA = ("plot", f"infer-{LONG}", "livez")  # kinds of requests that belong to an end, not to the load
PHASES = ("calm", "starting", "ending")


@dataclass
class Roll:
    """One change of the version; times in seconds."""

    old: str
    new: str
    begun_at: float
    told_at: float = float("inf")
    ended_at: float = float("inf")
    exit_s: float = float("inf")
    exit_code: int | None = None

    def phase(self, at: float) -> str:
        """Tell what went on at a time."""
        if not self.begun_at <= at <= self.ended_at:
            return "calm"
        return "starting" if at < self.told_at else "ending"


@dataclass
class Measure:
    """What callers of one kind saw, and when the version changed."""

    seen: Seen = field(default_factory=Seen)
    rolls: list[Roll] = field(default_factory=list)

    def phase(self, at: float) -> str:
        """Tell what went on at a time."""
        return next((phase for one in self.rolls if (phase := one.phase(at)) != "calm"), "calm")

    def after(self) -> Iterator[tuple[Roll, list[str]]]:
        """Give each roll-out, and which versions answered what was asked after it and before the next."""
        ends = [*(one.begun_at for one in self.rolls[1:]), float("inf")]
        for roll, end in zip(self.rolls, ends, strict=True):
            yield roll, [one.label for one in self.seen.answers if roll.ended_at < one.asked_at < end]

    def answered_by_old(self, kind: str) -> list[bool]:
        """Tell of each roll-out whether the old one answered a request that was sent before its SIGTERM."""
        answers = [one for one in self.seen.answers if one.kind == kind]
        return [
            any(roll.begun_at < one.asked_at < roll.told_at and one.label == roll.old for one in answers)
            for roll in self.rolls
        ]

    def times(self, phase: str) -> dict[str, float]:
        """Give the p99 of raw requests and the longest time without an answer in a phase, ms."""
        answers = [one for one in self.seen.answers if one.kind not in EXTRA]
        answers.sort(key=lambda one: one.answered_at)
        took = [one.answered_at - one.asked_at for one in answers if self.phase(one.asked_at) == phase]
        pairs = pairwise(one.answered_at for one in answers)
        gaps = [end - begin for begin, end in pairs if self.phase(end) == phase]
        if not gaps or not took:
            return {}
        return {f"p99_{phase}_ms": 1e3 * float(np.percentile(took, 99)), f"gap_{phase}_ms": 1e3 * max(gaps)}
