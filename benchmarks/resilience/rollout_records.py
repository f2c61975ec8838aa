"""What clients saw while the version of a service changed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.harness.results import Result, at_least, at_most, reported
from benchmarks.resilience.known_answers import LONG
from benchmarks.resilience.load_clients import Answer, RequestLog
from benchmarks.resilience.sdk_clients import SDK, SdkLog

LONG_KIND = f"infer-{LONG}"
EXTRA = ("plot", LONG_KIND, "livez")  # kinds of requests that belong to a shutdown, not to the load
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

    def times(self, phase: str) -> tuple[float | None, float | None]:
        """Return the p99 of raw requests and the longest time without an answer in a phase, ms."""
        answers = self.load_answers()
        took = [one.answered_at - one.asked_at for one in answers if self.phase(one.asked_at) == phase]
        pairs = pairwise(one.answered_at for one in answers)
        gaps = [end - begin for begin, end in pairs if self.phase(end) == phase]
        return 1e3 * float(np.percentile(took, 99)) if took else None, 1e3 * max(gaps) if gaps else None

    def kept(self) -> dict[str, Any]:
        """Return what goes into the record; times since the first roll-out."""
        start, rollouts = self.rollouts[0].begun_at, [asdict(one) for one in self.rollouts]
        for one in rollouts:
            one |= {name: round(one[name] - start, 3) for name in ("begun_at", "sigterm_at", "ended_at")}
        counts = Counter(f"{one.kind} of {one.label or 'either'}" for one in self.log.answers + self.sdk.answers)
        failures = self.log.examples(100, start)
        return {"rollouts": rollouts, "answers": counts, "failures": failures, SDK: self.sdk.kept()}


def results_of(raw: Measure, sdk: Measure) -> list[Result]:
    """Sum up the roll-outs under raw clients and those under the SDK."""
    both, rows = (raw, sdk), sdk.sdk
    rollouts = [one for measure in both for one in measure.rollouts]
    after = [found for measure in both for found in measure.after()]
    outcomes, asked = raw.log.outcomes() + sdk.log.outcomes(), [one.asked_at for one in raw.load_answers()]
    kept, fresh = outcomes["lost_kept"] + outcomes["cut"], outcomes["lost_fresh"] + outcomes["refused"]
    long, plots = ([one for measure in both for one in measure.answered_by_old(kind)] for kind in (LONG_KIND, "plot"))
    results = [
        at_least("roll-outs, half of them under the SDK", len(rollouts), 1),
        at_most("requests lost without retries", kept + fresh + outcomes["lost_late"], 0),
        at_most("... of which on a connection that was kept", kept, 0),
        at_most("... of which on a fresh connection", fresh, 0),
        at_most("... of which on one that was idle until the service was about to close it", outcomes["lost_late"], 0),
        reported("requests that crossed the close of an idle connection (RFC 9112, 9.5)", outcomes["crossed"]),
        at_most("answers that are wrong", outcomes["wrong"], 0),
        at_most("answers 429 and 503", outcomes["unavailable"], 0),
        at_least("requests answered rightly", sum(len(measure.log.answers) for measure in both), 1),
        at_least("share of roll-outs in which the old version answered the 1,000 cutouts", np.mean(long), 1),
        at_least("share of roll-outs in which the old version answered the plot", np.mean(plots), 1),
        at_least(
            "share of roll-outs after which the new one answered", np.mean([one.new in by for one, by in after]), 1
        ),
        at_most(
            "answers of the old one to what was asked after its end", sum(by.count(one.old) for one, by in after), 0
        ),
        at_least("share of shutdowns with exit code 0", np.mean([one.exit_code == 0 for one in rollouts]), 1),
        at_most("calls of the SDK that raised", len(rows.raised) - rows.cut, 0),
        at_most(
            "rows of the SDK missing, doubled or wrong", rows.missing - rows.rows_cut + rows.doubled + rows.wrong, 0
        ),
        at_least("rows of the SDK", rows.rows, 1),
        reported("calls of the SDK that raised because the model had changed", rows.cut),
        reported("rows that these lack", rows.rows_cut),
        reported("attempts of the SDK without an answer of 200", rows.attempts["sent"] - rows.attempts["200"]),
        reported("calls of the SDK of which both versions answered a part", rows.mixed),
        reported("asked by raw clients, requests/s", len(asked) / (max(asked) - min(asked))),
        reported("longest time from SIGTERM to the end, s", max(rollout.exit_s for rollout in rollouts)),
    ]
    for phase in PHASES:
        p99, gap = raw.times(phase)
        results += [
            reported(f"p99 of raw requests, {phase}, ms", p99),
            reported(f"longest time without an answer, {phase}, ms", gap),
        ]
    return results
