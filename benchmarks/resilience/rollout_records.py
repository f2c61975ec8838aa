"""What clients saw while the version of a service changed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.resilience.known_answers import LONG
from benchmarks.resilience.load_clients import Answer, RequestLog
from benchmarks.resilience.sdk_clients import SDK, SdkLog

EXTRA = ("plot", f"infer-{LONG}", "livez")  # kinds of requests that belong to a shutdown, not to the load
PHASES = ("calm", "starting", "ending")


@dataclass
class Rollout:
    """One change of the version, from label to label; times in seconds."""

    old: str
    new: str
    begun_at: float
    sigterm_at: float = float("inf")
    ended_at: float = float("inf")
    exit_s: float = float("inf")
    exit_code: int | None = None

    def phase(self, at: float) -> str:
        """Return the phase at a time."""
        if not self.begun_at <= at <= self.ended_at:
            return "calm"
        return "starting" if at < self.sigterm_at else "ending"


@dataclass
class Measure:
    """Roll-outs under clients of one kind, and what these saw."""

    log: RequestLog = field(default_factory=RequestLog)
    sdk: SdkLog = field(default_factory=SdkLog)
    rollouts: list[Rollout] = field(default_factory=list)

    def phase(self, at: float) -> str:
        """Return the phase at a time."""
        return next((phase for one in self.rollouts if (phase := one.phase(at)) != "calm"), "calm")

    def after(self) -> Iterator[tuple[Rollout, list[str]]]:
        """Yield each roll-out, and the versions that answered what was asked after it and before the next."""
        ends = [*(one.begun_at for one in self.rollouts[1:]), float("inf")]
        answers = self.log.answers + self.sdk.answers
        for rollout, end in zip(self.rollouts, ends, strict=True):
            yield rollout, [one.label for one in answers if rollout.ended_at < one.asked_at < end]

    def answered_by_old(self, kind: str) -> list[bool]:
        """Return for each roll-out whether the old version answered a request that was sent before its SIGTERM."""
        answers = [one for one in self.log.answers if one.kind == kind]
        return [
            any(rollout.begun_at < one.asked_at < rollout.sigterm_at and one.label == rollout.old for one in answers)
            for rollout in self.rollouts
        ]

    def load_answers(self) -> list[Answer]:
        """Return the answers to the load of raw clients, in the order in which they came."""
        return sorted((one for one in self.log.answers if one.kind not in EXTRA), key=lambda one: one.answered_at)

    def times(self, phase: str) -> dict[str, float]:
        """Return the p99 of raw requests and the longest time without an answer in a phase, ms."""
        answers = self.load_answers()
        took = [one.answered_at - one.asked_at for one in answers if self.phase(one.asked_at) == phase]
        pairs = pairwise(one.answered_at for one in answers)
        gaps = [end - begin for begin, end in pairs if self.phase(end) == phase]
        if not gaps or not took:
            return {}
        return {f"p99_{phase}_ms": 1e3 * float(np.percentile(took, 99)), f"gap_{phase}_ms": 1e3 * max(gaps)}

    def kept(self) -> dict[str, Any]:
        """Return what goes into the record; times since the first roll-out."""
        start, counts = self.rollouts[0].begun_at, dict[str, int]()
        for one in self.log.answers + self.sdk.answers:
            name = f"{one.kind} of {one.label or 'either'}"
            counts[name] = counts.get(name, 0) + 1
        rollouts = [asdict(one) for one in self.rollouts]
        for one in rollouts:
            one |= {name: round(one[name] - start, 3) for name in ("begun_at", "sigterm_at", "ended_at")}
        failures = self.log.examples(100, start)
        return {"rollouts": rollouts, "answers": counts, "failures": failures, SDK: self.sdk.kept()}


def figures_of(raw: Measure, sdk: Measure) -> dict[str, float]:
    """Sum up the roll-outs under raw clients and those under the SDK."""
    both, rows = (raw, sdk), sdk.sdk
    rollouts = [one for measure in both for one in measure.rollouts]
    after = [found for measure in both for found in measure.after()]
    outcomes = raw.log.outcomes() + sdk.log.outcomes()
    lost = {
        "lost_kept": outcomes["lost_kept"] + outcomes["cut"],
        "lost_fresh": outcomes["lost_fresh"] + outcomes["refused"],
        "lost_late": outcomes["lost_late"],
    }
    asked = [one.asked_at for one in raw.load_answers()]
    old_answered = {kind: [one for measure in both for one in measure.answered_by_old(kind)] for kind in EXTRA}
    figures = lost | {
        "lost": sum(lost.values()),
        "crossed": outcomes["crossed"],
        "wrong": outcomes["wrong"],
        "unavailable": outcomes["unavailable"],
        "rollouts": len(rollouts),
        "right": sum(len(measure.log.answers) for measure in both),
        "long_share": np.mean(old_answered[f"infer-{LONG}"]),
        "plot_share": np.mean(old_answered["plot"]),
        "new_share": np.mean([rollout.new in labels for rollout, labels in after]),
        "stale": sum(labels.count(rollout.old) for rollout, labels in after),
        "clean_share": np.mean([rollout.exit_code == 0 for rollout in rollouts]),
        "exit_max_s": max(rollout.exit_s for rollout in rollouts),
        "rate": len(asked) / (max(asked) - min(asked)),
        "sdk_failed": len(rows.raised) - rows.cut,
        "sdk_rows_bad": rows.missing - rows.rows_cut + rows.doubled + rows.wrong,
        "sdk_rows": rows.rows,
        "sdk_cut": rows.cut,
        "sdk_rows_cut": rows.rows_cut,
        "sdk_attempts_failed": rows.attempts.total() - rows.attempts["200"],
        "sdk_mixed": rows.mixed,
    }
    times = {name: value for phase in PHASES for name, value in raw.times(phase).items()}
    return {name: float(value) for name, value in (figures | times).items()}
