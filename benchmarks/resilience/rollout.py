"""Replace the running service by another version, again and again, under load: no request may be lost.

It goes as a Deployment of Kubernetes does it (maxUnavailable 0, maxSurge 1): callers know one address, that of a proxy
(benchmarks/endurance/proxy.py); a new instance is started, and once connections are sent to it the old one gets
SIGTERM. That the proxy learns of the end by its probes alone is the worse case: Kubernetes takes an instance that it
ends out of the endpoints without waiting for a probe.

There are two measures: raw clients that never ask again, on connections that are kept and on fresh ones, and clients of
the SDK with its retries. In both a request of 1,000 cutouts and a plot, sent without retries on connections that stand
from before the new instance was there, are under way at each SIGTERM; and connections to the old instance that idled
ask about when it closes them.
"""

import asyncio
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import asdict
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.endurance import instances, proxy, verdict
from benchmarks.endurance.callers import LATE, SDK, ask_and_leave, ask_late, capacity, raw_load, sdk_load, stand
from benchmarks.endurance.checks import Good, Reference
from benchmarks.endurance.client import now
from benchmarks.endurance.drain import AHEAD, LONG, plot
from benchmarks.endurance.instances import Instance, Start, Version
from benchmarks.endurance.proxy import Address, open_address
from benchmarks.endurance.rolls import EXTRA, PHASES, Measure, Roll
from benchmarks.endurance.soak import Mix
from benchmarks.servers import free_port
from photoz.model.bundle import ModelBundle

OUTCOMES = ("lost_kept", "lost_fresh", "lost_late", "crossed", "wrong", "unavailable")

SHARE = 1 / 3  # of the capacity that raw clients ask for
MARGIN = 1.0  # seconds of PHOTOZ_DRAIN beside probe and propagation: a probe may come late

WANTED = (
    verdict.at_least("roll-outs, half of them under the SDK", "rolls", 1),
    verdict.at_most("requests lost without retries", "lost", 0),
    verdict.at_most("... of which on a connection that was kept", "lost_kept", 0),
    verdict.at_most("... of which on a fresh connection", "lost_fresh", 0),
    verdict.at_most("... of which on one that was idle until the service was about to close it", "lost_late", 0),
    verdict.told("requests that crossed the farewell of an idle connection (RFC 9112, 9.5)", "crossed"),
    verdict.at_most("answers that are wrong", "wrong", 0),
    verdict.at_most("answers 429 and 5xx", "unavailable", 0),
    verdict.at_least("requests answered rightly", "right", 1),
    verdict.at_least("share of roll-outs in which the old one answered the 1,000 cutouts", "long_share", 1),
    verdict.at_least("share of roll-outs in which the old one answered the plot", "plot_share", 1),
    verdict.at_least("share of roll-outs after which the new one answered", "new_share", 1),
    verdict.at_most("answers of the old one to what was asked after its end", "stale", 0),
    verdict.at_least("share of ends with exit code 0", "clean_share", 1),
    verdict.at_most("calls of the SDK that raised", "sdk_failed", 0),
    verdict.at_most("rows of the SDK missing, doubled or wrong", "sdk_rows_bad", 0),
    verdict.at_least("rows of the SDK", "sdk_rows", 1),
    verdict.told("calls of the SDK that ended with the words that the model had changed", "sdk_cut"),
    verdict.told("rows that these lack", "sdk_rows_cut"),
    verdict.told("attempts of the SDK without an answer of 200", "sdk_attempts_failed"),
    verdict.told("calls of the SDK of which both versions answered a part", "sdk_mixed"),
    verdict.told("connections that nobody took", "refusals"),
    verdict.told("capacity for this mix, requests/s", "capacity"),
    verdict.told("asked by raw clients, requests/s", "rate"),
    *(verdict.told(f"p99 of raw requests, {phase}, ms", f"p99_{phase}_ms") for phase in PHASES),
    *(verdict.told(f"longest time without an answer, {phase}, ms", f"gap_{phase}_ms") for phase in PHASES),
    verdict.told("longest time from SIGTERM to the end, s", "exit_max_s"),
)


class Cluster:
    """An address, and what runs behind it.

    Parameters
    ----------
    address : Address
        That callers know.
    start : callable
        Starts an instance.
    drain : float
        Seconds after SIGTERM in which an instance takes connections.
    stack : ExitStack
        That ends what is still there.
    """

    def __init__(self, address: Address, start: Start, drain: float, stack: ExitStack) -> None:
        self.address, self._start, self._drain, self._stack = address, start, drain, stack

    async def launch(self, version: Version) -> Instance:
        """Start an instance and wait until connections are sent to it."""
        port = free_port()
        self.address.add(port)
        instance = await asyncio.to_thread(self._stack.enter_context, self._start(version, port))
        await self.address.wait_for(port)
        return instance

    async def replace(self, old: Instance, version: Version, long: Sequence[Good], measure: Measure) -> Instance:
        """Launch another version, end the old instance while it works on long requests, and give the new one."""
        roll = Roll(old.version.label, version.label, now())
        measure.rolls.append(roll)
        standing = [await stand(self.address.port) for _ in long]
        new = await self.launch(version)
        idle = [await stand(old.port) for _ in range(LATE)]  # not by the proxy, which the kernel would do without
        asked = []
        for connection, good in zip(standing, long, strict=True):
            asked.append(asyncio.create_task(ask_and_leave(connection, good, measure.seen)))
            await asyncio.sleep(AHEAD / len(long))
        roll.told_at = now()
        asked.append(asyncio.create_task(ask_late(idle, roll.told_at + self._drain, measure.seen)))
        roll.exit_s, roll.exit_code = await asyncio.to_thread(old.end)
        roll.ended_at = now()
        self.address.drop(old.port)
        await asyncio.gather(*asked)
        return new


async def measured(
    cluster: Cluster, instance: Instance, versions: Sequence[Version], reference: Reference, chosen: Namespace
) -> tuple[dict[str, float], dict[str, Any]]:
    """Roll out under raw clients and under those of the SDK; give the figures and what else is to be kept."""
    mix, port = Mix(reference, chosen.seed), cluster.address.port
    most = await capacity(port, mix, chosen.capacity_seconds)
    raw, sdk, refused = Measure(), Measure(), sum(cluster.address.refusals.values())
    loads: list[tuple[Measure, AbstractAsyncContextManager[None]]] = [
        (raw, raw_load(port, mix, SHARE * most, chosen.seed, raw.seen)),
        (sdk, sdk_load(port, sdk.seen)),
    ]
    long, upcoming = (plot(), reference.infer(LONG)), cycle((*versions[1:], versions[0]))
    for measure, load in loads:
        async with load:
            await asyncio.sleep(chosen.calm)
            for version in islice(upcoming, chosen.rolls):
                instance = await cluster.replace(instance, version, long, measure)
                _tell(measure)
                await asyncio.sleep(chosen.calm)
    refused = sum(cluster.address.refusals.values()) - refused
    return figures_of(raw, sdk) | {"capacity": most, "refusals": refused}, {"raw": _kept(raw), "sdk": _kept(sdk)}


def figures_of(raw: Measure, sdk: Measure) -> dict[str, float]:
    """Sum both measures up."""
    both, rows = (raw, sdk), sdk.seen.sdk
    rolls = [roll for one in both for roll in one.rolls]
    outcomes = raw.seen.outcomes + sdk.seen.outcomes
    after = [found for one in both for found in one.after()]
    asked = [one.asked_at for one in raw.seen.answers if one.kind not in EXTRA]
    figures = {name: outcomes[name] for name in OUTCOMES} | {
        "rolls": len(rolls),
        "lost": outcomes["lost_kept"] + outcomes["lost_fresh"] + outcomes["lost_late"],
        "right": sum(one.kind != SDK for measure in both for one in measure.seen.answers),
        "long_share": np.mean(raw.answered_by_old(f"infer-{LONG}") + sdk.answered_by_old(f"infer-{LONG}")),
        "plot_share": np.mean(raw.answered_by_old("plot") + sdk.answered_by_old("plot")),
        "new_share": np.mean([roll.new in labels for roll, labels in after]),
        "stale": sum(labels.count(roll.old) for roll, labels in after),
        "clean_share": np.mean([roll.exit_code == 0 for roll in rolls]),
        "exit_max_s": max(roll.exit_s for roll in rolls),
        "rate": len(asked) / (max(asked) - min(asked)),
        "sdk_failed": len(rows.raised) - rows.cut,
        "sdk_rows_bad": rows.missing - rows.rows_cut + rows.doubled + rows.wrong,
        "sdk_rows": rows.rows,
        "sdk_cut": rows.cut,
        "sdk_rows_cut": rows.rows_cut,
        "sdk_attempts_failed": rows.attempts.total() - rows.attempts["200"],
        "sdk_mixed": sdk.seen.sdk_mixed,
    }
    times = {name: value for phase in PHASES for name, value in raw.times(phase).items()}
    return {name: float(value) for name, value in (figures | times).items()}


def _tell(measure: Measure) -> None:
    roll, seen = measure.rolls[-1], measure.seen
    print(
        f"roll-out {len(measure.rolls)}: {roll.old} to {roll.new}: SIGTERM after {roll.told_at - roll.begun_at:.2f} s, "
        f"exit code {roll.exit_code} after {roll.exit_s:.2f} s; {len(seen.answers)} answers, {dict(seen.outcomes)}",
        flush=True,
    )


def _kept(measure: Measure) -> dict[str, Any]:
    seen, start = measure.seen, measure.rolls[0].begun_at
    rolls = [asdict(roll) for roll in measure.rolls]
    for roll in rolls:
        roll |= {name: round(roll[name] - start, 3) for name in ("begun_at", "told_at", "ended_at")}
    return {
        "rolls": rolls,
        "answers": dict(Counter(f"{one.kind} of {one.label or 'either'}" for one in seen.answers)),
        "failures": [(round(at - start, 3), words) for at, words in seen.failures[:100]],
        "sdk": {"calls": seen.sdk.calls, "attempts": dict(seen.sdk.attempts), "raised": seen.sdk.raised[:20]},
    }


async def roll_out(
    chosen: Namespace, versions: Sequence[Version], start: Start
) -> tuple[dict[str, float], dict[str, Any]]:
    """Open an address, launch the first version behind it, and roll out."""
    path = f"/v2/models/{ModelBundle.load(versions[0].bundle).card.name}/infer"
    async with open_address(chosen.probe, chosen.propagation) as address:
        with ExitStack() as stack:
            cluster = Cluster(address, start, chosen.drain, stack)
            first = await cluster.launch(versions[0])
            return await measured(cluster, first, versions, await Reference.ask(first.port, path), chosen)


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("rollout", __doc__)
    parser.add_argument("--rolls", type=int, default=10, help="roll-outs in each of the two measures")
    parser.add_argument("--calm", type=float, default=3.0, help="seconds between two of them")
    parser.add_argument("--probe", type=float, default=proxy.PROBE, help="seconds between two questions to /readyz")
    parser.add_argument("--propagation", type=float, default=proxy.PROPAGATION, help="seconds until an answer is known")
    parser.add_argument("--drain", type=float, help=f"PHOTOZ_DRAIN; by default both and {MARGIN:g} s more")
    parser.add_argument("--capacity-seconds", type=float, default=5.0)
    parser.add_argument("--image", help="roll out containers of this image under podman, in place of processes")
    parser.add_argument("--network", default="", help="of podman, for them")
    chosen = parser.parse_args(arguments)
    if chosen.drain is None:
        chosen.drain = chosen.probe + chosen.propagation + MARGIN
    what = chosen.image or "processes"
    print(f"seed {chosen.seed}, twice {chosen.rolls} roll-outs of {what}, {chosen.drain:g} s of drain")
    start = partial(instances.process, chosen.drain)
    if chosen.image:
        start = partial(instances.container, chosen.image, chosen.network, chosen.drain)
    with tempfile.TemporaryDirectory() as folder:
        first = Version.of(chosen.bundle)
        figures, kept = asyncio.run(roll_out(chosen, (first, first.next(Path(folder))), start))
    print("\n".join(words for name in ("raw", "sdk") for _, words in kept[name]["failures"][:10]))
    return verdict.conclude("rollout", chosen, figures, WANTED, kept)
