"""Replace the running service by another version, again and again, under load: no request may be lost.

This follows a Deployment of Kubernetes (maxUnavailable 0, maxSurge 1). Clients know only the address of HAProxy
(benchmarks/resilience/haproxy.cfg). A new instance is started, and once it gets connections the old instance gets
SIGTERM. HAProxy learns of the shutdown by its probes alone, which is the worse case: Kubernetes takes an instance that
it ends out of the endpoints without waiting for a probe.

Half of the roll-outs are under raw clients that never retry, on kept and on fresh connections, half under clients of
the SDK with its retries. In all of them a request of 1,000 cutouts and a plot, sent without retries to the old
instance, are under way at SIGTERM; and idle connections to it ask just when it closes them.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.http_client import now
from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.resilience.balancer import Balancer, running_balancer
from benchmarks.resilience.clients import RequestLog, ask_late, capacity, raw_load, standing_client
from benchmarks.resilience.known_answers import LONG, CheckedRequest, Mix, Reference, plot
from benchmarks.resilience.sdk_clients import FEW, SdkLog, sdk_load
from photoz.model.bundle import ModelBundle

PROBE = 1.0  # seconds: periodSeconds and timeoutSeconds of a readiness probe
PROPAGATION = 0.5  # seconds from an answer to those who send connections
PATIENCE = 60.0  # seconds that an instance may take to end
SHARE = 1 / 3  # of the capacity that raw clients ask for
MARGIN = 1.0  # seconds of drain beyond probe and propagation: a probe may come late
LATE = 200  # connections that are idle until the service is about to close them
LATE_S = 1.5  # seconds over which they ask
SDK_CALLS = ((1, 0.1), (1, 0.1), (FEW, 0.5), (LONG, 2.0))  # cutouts in a call, seconds between calls


@dataclass(frozen=True)
class Version:
    """A bundle that is rolled out, and the name of its model in answers."""

    bundle: Path
    label: str

    @classmethod
    def of(cls, bundle: Path) -> "Version":
        """Read the label from the bundle's card."""
        card = ModelBundle.load(bundle).card
        return cls(bundle, f"{card.name} {card.version}")

    def next(self, folder: Path) -> "Version":
        """Write the same model under another version into a folder."""
        card = ModelBundle.load(self.bundle).card
        other = card.model_copy(update={"version": f"{card.version}-next"})
        return self.of(ModelBundle.write(folder / "next", other, self.bundle).path)


@dataclass(frozen=True)
class Instance:
    """A running service of a version."""

    version: Version
    server: Server


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


@dataclass
class Record:
    """All roll-outs, and what their clients saw."""

    log: RequestLog = field(default_factory=RequestLog)
    sdk: SdkLog = field(default_factory=SdkLog)
    rollouts: list[Rollout] = field(default_factory=list)

    def after(self) -> Iterator[tuple[Rollout, list[str]]]:
        """Yield each roll-out, and the versions that answered what was asked after it and before the next."""
        ends = [*(rollout.begun_at for rollout in self.rollouts[1:]), float("inf")]
        answers = self.log.answers + self.sdk.answers
        for rollout, end in zip(self.rollouts, ends, strict=True):
            yield rollout, [answer.label for answer in answers if rollout.ended_at < answer.asked_at < end]

    def share_answered_by_old(self, kind: str) -> float:
        """Return the share of roll-outs whose old version answered a request that was sent before its SIGTERM."""
        asked = [(answer.asked_at, answer.label) for answer in self.log.answers if answer.kind == kind]
        answered = 0
        for rollout in self.rollouts:
            answered += any(rollout.begun_at < at < rollout.sigterm_at and label == rollout.old for at, label in asked)
        return answered / len(self.rollouts)

    def details(self) -> dict[str, Any]:
        """Return what goes into the JSON record; times since the first roll-out."""
        start, rollouts = self.rollouts[0].begun_at, [asdict(rollout) for rollout in self.rollouts]
        for rollout in rollouts:
            rollout |= {name: round(rollout[name] - start, 3) for name in ("begun_at", "sigterm_at", "ended_at")}
        answers = Counter(
            f"{answer.kind} of {answer.label or 'either'}" for answer in self.log.answers + self.sdk.answers
        )
        failures = self.log.examples(100, start)
        return {"rollouts": rollouts, "answers": answers, "failures": failures, "raised": self.sdk.raised}


def results_of(record: Record) -> list[Result]:
    """Sum the roll-outs up."""
    rollouts, sdk, outcomes, after = record.rollouts, record.sdk, record.log.outcomes(), list(record.after())
    new_answered = [rollout.new in labels for rollout, labels in after]
    stale = sum(labels.count(rollout.old) for rollout, labels in after)
    kept, fresh = outcomes["lost_kept"] + outcomes["cut"], outcomes["lost_fresh"] + outcomes["refused"]
    bad_rows = sdk.missing - sdk.rows_cut + sdk.doubled + sdk.wrong
    long, plots = record.share_answered_by_old(f"infer-{LONG}"), record.share_answered_by_old("plot")
    return [
        at_least("roll-outs, half of them under the SDK", len(rollouts), 1),
        at_most("requests lost without retries", kept + fresh + outcomes["lost_late"], 0),
        at_most("... of which on a connection that was kept", kept, 0),
        at_most("... of which on a fresh connection", fresh, 0),
        at_most("... of which on one that was idle until the service was about to close it", outcomes["lost_late"], 0),
        reported("requests that crossed the close of an idle connection (RFC 9112, 9.5)", outcomes["crossed"]),
        at_most("answers that are wrong", outcomes["wrong"], 0),
        at_most("answers 429 and 503", outcomes["unavailable"] + outcomes["busy"], 0),
        at_least("requests answered rightly", len(record.log.answers), 1),
        at_least("share of roll-outs in which the old version answered the 1,000 cutouts", long, 1),
        at_least("share of roll-outs in which the old version answered the plot", plots, 1),
        at_least("share of roll-outs after which the new version answered", np.mean(new_answered), 1),
        at_most("answers of the old version to what was asked after its end", stale, 0),
        at_least("share of shutdowns with exit code 0", np.mean([rollout.exit_code == 0 for rollout in rollouts]), 1),
        at_most("calls of the SDK that raised", len(sdk.raised) - sdk.cut, 0),
        at_most("rows of the SDK missing, doubled or wrong", bad_rows, 0),
        at_least("rows of the SDK", sdk.rows, 1),
        reported("calls of the SDK that raised because the model had changed", sdk.cut),
        reported("rows that these lack", sdk.rows_cut),
        reported("p99 of raw requests, ms", 1e3 * np.percentile([answer.took_s for answer in record.log.answers], 99)),
        reported("longest time from SIGTERM to the end, s", max(rollout.exit_s for rollout in rollouts)),
    ]


class Cluster:
    """A balancer and the instances behind it, which `stack` ends; `drain` is their setting."""

    def __init__(self, balancer: Balancer, drain: float, stack: ExitStack) -> None:
        self.balancer, self.record, self._drain, self._stack = balancer, Record(), drain, stack

    def launch(self, version: Version, port: int) -> Instance:
        """Start an instance and wait until connections go to it."""
        self.balancer.wait_for(port, "DOWN")
        recipe = replace(service(version.bundle, PHOTOZ_DRAIN_SECONDS=f"{self._drain:g}"), port=port)
        server = self._stack.enter_context(running(recipe))
        self.balancer.wait_for(port, "UP")
        return Instance(version, server)

    def replace(self, old: Instance, version: Version, long: Sequence[CheckedRequest]) -> Instance:
        """Launch another version, stop the old instance while it works on long requests, and return the new one."""
        rollout, log = Rollout(old.version.label, version.label, now()), self.record.log
        self.record.rollouts.append(rollout)
        (port,) = set(self.balancer.ports) - {old.server.recipe.port}
        new = self.launch(version, port)
        # Directly: the balancer would spread them, and the service closes connections that were idle since before.
        late = [standing_client(old.server.recipe.port, log, "lost_late") for _ in range(LATE)]
        standing = [standing_client(old.server.recipe.port, log) for _ in long]
        made_at = now()
        with ThreadPoolExecutor(len(long) + 1) as pool:
            asked = [pool.submit(client.ask, request) for client, request in zip(standing, long, strict=True)]
            while any(client.sent_at < made_at for client in standing):
                time.sleep(0.001)
            rollout.sigterm_at = now()
            asked.append(pool.submit(ask_late, late, rollout.sigterm_at + self._drain, LATE_S))
            old.server.process.terminate()
            rollout.exit_s, rollout.exit_code = old.server.wait_for_exit(PATIENCE)
            rollout.ended_at = now()
        for call in asked:
            call.result()
        for client in standing:
            client.close()
        took = f"SIGTERM after {rollout.sigterm_at - rollout.begun_at:.2f} s, end after {rollout.exit_s:.2f} s more"
        print(f"{version.label}: {took}, exit code {rollout.exit_code}; {dict(log.outcomes())}", flush=True)
        return new


def roll_out(
    cluster: Cluster, instance: Instance, versions: Sequence[Version], options: argparse.Namespace
) -> list[Result]:
    """Roll out under raw clients and under those of the SDK."""
    recipe, port, record = instance.server.recipe, cluster.balancer.port, cluster.record
    reference = Reference.ask(recipe.port, recipe.path)
    mix = Mix(reference, options.seed)
    most = capacity(port, mix, options.capacity_seconds)
    long, upcoming = (plot(), reference.infer(LONG)), cycle((*versions[1:], versions[0]))
    raw = raw_load(port, mix, SHARE * most, options.seed, record.log)
    for load in (raw, sdk_load(port, SDK_CALLS, record.sdk)):
        with load:
            time.sleep(options.calm)
            for version in islice(upcoming, options.rollouts):
                instance = cluster.replace(instance, version, long)
                time.sleep(options.calm)
    return [*results_of(record), reported("capacity for this mix, requests/s", most)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rollouts", type=int, default=10, help="roll-outs under each kind of clients")
    parser.add_argument("--calm", type=float, default=3.0, help="seconds between two of them")
    parser.add_argument("--probe", type=float, default=PROBE, help="seconds between two probes of /readyz")
    parser.add_argument("--propagation", type=float, default=PROPAGATION, help="seconds until an answer is believed")
    parser.add_argument("--drain", type=float, help=f"PHOTOZ_DRAIN_SECONDS; by default both and {MARGIN:g} s more")
    parser.add_argument("--capacity-seconds", type=float, default=5.0)


def run(options: argparse.Namespace) -> int:
    if options.drain is None:
        options.drain = options.probe + options.propagation + MARGIN
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        first = Version.of(options.bundle)
        versions = (first, first.next(Path(folder)))
        balancer = stack.enter_context(running_balancer(options.probe, options.propagation))
        cluster = Cluster(balancer, options.drain, stack)
        results = roll_out(cluster, cluster.launch(first, balancer.ports[0]), versions, options)
    print(*cluster.record.log.examples(20), sep="\n")
    return conclude(options, results, cluster.record.details())
