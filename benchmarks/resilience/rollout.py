"""Replace the running service by another version, again and again, under load: no request may be lost.

It is done as a Deployment of Kubernetes does it (maxUnavailable 0, maxSurge 1): clients know one address, that of
HAProxy (benchmarks/resilience/balancer.py); a new instance is started, and once connections go to it the old one gets
SIGTERM. HAProxy learns of the shutdown by its probes alone, which is the worse case: Kubernetes takes an instance that
it ends out of the endpoints without waiting for a probe.

There are two measures: raw clients that never retry, on kept and on fresh connections, and clients of the SDK with its
retries. In both a request of 1,000 cutouts and a plot, sent without retries on connections from before the new instance
was there, are under way at each SIGTERM; and idle connections to the old instance ask just when it closes them.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.harness.http_client import now
from benchmarks.harness.results import Result, conclude, reported
from benchmarks.resilience import instances
from benchmarks.resilience.balancer import PROBE, PROPAGATION, Balancer, running_balancer
from benchmarks.resilience.drain import AHEAD
from benchmarks.resilience.instances import Instance, Start, Version
from benchmarks.resilience.known_answers import LONG, CheckedRequest, Mix, Reference, plot
from benchmarks.resilience.load_clients import ask_late, capacity, raw_load, standing_client
from benchmarks.resilience.rollout_records import Measure, Rollout, results_of
from benchmarks.resilience.sdk_clients import FEW, sdk_load
from photoz.model.bundle import ModelBundle

SHARE = 1 / 3  # of the capacity that raw clients ask for
MARGIN = 1.0  # seconds of drain beyond probe and propagation: a probe may come late
LATE = 200  # connections that are idle until the service is about to close them
LATE_S = 1.5  # seconds over which they ask
SDK_CALLS = ((1, 0.1), (1, 0.1), (FEW, 0.5), (LONG, 2.0))  # cutouts in a call, seconds between calls


class Cluster:
    """A balancer and the instances behind it, which `stack` ends; `drain` is their setting."""

    def __init__(self, balancer: Balancer, start: Start, drain: float, stack: ExitStack) -> None:
        self.balancer, self._start, self._drain, self._stack = balancer, start, drain, stack

    def launch(self, version: Version, port: int) -> Instance:
        """Start an instance and wait until connections go to it."""
        self.balancer.wait_for(port, "DOWN")
        instance = self._stack.enter_context(self._start(version, port))
        self.balancer.wait_for(port, "UP")
        return instance

    def replace(self, old: Instance, version: Version, long: Sequence[CheckedRequest], measure: Measure) -> Instance:
        """Launch another version, stop the old instance while it works on long requests, and return the new one."""
        rollout = Rollout(old.version.label, version.label, now())
        measure.rollouts.append(rollout)
        standing = [standing_client(self.balancer.port, measure.log) for _ in long]
        (port,) = set(self.balancer.ports) - {old.port}
        new = self.launch(version, port)
        late = [
            standing_client(old.port, measure.log, "lost_late") for _ in range(LATE)
        ]  # directly, without the balancer
        with ThreadPoolExecutor(len(long) + 1) as pool:
            asked = []
            for client, request in zip(standing, long, strict=True):
                asked.append(pool.submit(client.ask, request))
                time.sleep(AHEAD / len(long))
            rollout.sigterm_at = now()
            asked.append(pool.submit(ask_late, late, rollout.sigterm_at + self._drain, LATE_S))
            rollout.exit_s, rollout.exit_code = old.stop()
            rollout.ended_at = now()
        for one in asked:
            one.result()
        for client in standing:
            client.close()
        return new


def roll_out(
    cluster: Cluster, instance: Instance, versions: Sequence[Version], options: argparse.Namespace
) -> tuple[list[Result], dict[str, Any]]:
    """Roll out under raw clients and under those of the SDK; return the results and what else goes into the record."""
    path = f"/v2/models/{ModelBundle.load(instance.version.bundle).card.name}/infer"
    reference, port = Reference.ask(instance.port, path), cluster.balancer.port
    mix = Mix(reference, options.seed)
    most = capacity(port, mix, options.capacity_seconds)
    raw, sdk, refused = Measure(), Measure(), cluster.balancer.refusals()
    loads = (
        (raw, raw_load(port, mix, SHARE * most, options.seed, raw.log)),
        (sdk, sdk_load(port, SDK_CALLS, sdk.sdk)),
    )
    long, upcoming = (plot(), reference.infer(LONG)), cycle((*versions[1:], versions[0]))
    for measure, load in loads:
        with load:
            time.sleep(options.calm)
            for version in islice(upcoming, options.rolls):
                instance = cluster.replace(instance, version, long, measure)
                _print_last(measure)
                time.sleep(options.calm)
    more = [
        reported("connections that no instance accepted", cluster.balancer.refusals() - refused),
        reported("capacity for this mix, requests/s", most),
    ]
    return results_of(raw, sdk) + more, {"raw": raw.kept(), "sdk": sdk.kept()}


def _print_last(measure: Measure) -> None:
    one, answers = measure.rollouts[-1], len(measure.log.answers) + len(measure.sdk.answers)
    print(
        f"roll-out {len(measure.rollouts)} to {one.new}: SIGTERM after {one.sigterm_at - one.begun_at:.2f} s, "
        f"exit code {one.exit_code} after {one.exit_s:.2f} s; {answers} answers, {dict(measure.log.outcomes())}",
        flush=True,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rolls", type=int, default=10, help="roll-outs in each of the two measures")
    parser.add_argument("--calm", type=float, default=3.0, help="seconds between two of them")
    parser.add_argument("--probe", type=float, default=PROBE, help="seconds between two probes of /readyz")
    parser.add_argument("--propagation", type=float, default=PROPAGATION, help="seconds until an answer is believed")
    parser.add_argument("--drain", type=float, help=f"{instances.DRAIN}; by default both and {MARGIN:g} s more")
    parser.add_argument("--capacity-seconds", type=float, default=5.0)
    parser.add_argument("--image", help="roll out containers of this image under podman, in place of processes")
    parser.add_argument("--network", default="", help="of podman, for them")


def run(options: argparse.Namespace) -> int:
    if options.drain is None:
        options.drain = options.probe + options.propagation + MARGIN
    start: Start = partial(instances.process, options.drain)
    if options.image:
        start = partial(instances.container, options.image, options.network, options.drain)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        first = Version.of(options.bundle)
        versions = (first, first.next(Path(folder)))
        balancer = stack.enter_context(running_balancer(options.probe, options.propagation))
        cluster = Cluster(balancer, start, options.drain, stack)
        results, kept = roll_out(cluster, cluster.launch(first, balancer.ports[0]), versions, options)
    print(*(text for name in ("raw", "sdk") for text in kept[name]["failures"][:10]), sep="\n")
    return conclude(options, results, kept)
