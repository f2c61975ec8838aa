"""Hostile requests beside good ones: whether the service stays up, stays right, and stays as large as it was.

Of ten requests nine are attacks, in turns with good ones over many connections, some of which both kinds share. Each
attack follows from --seed and its number alone: --replay NUMBER sends that one again and shows it.
"""

import asyncio
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

from benchmarks.endurance import verdict
from benchmarks.endurance.attackers import GOOD_EVERY, Client, Tally, answers, attack_of
from benchmarks.endurance.attacks import Material
from benchmarks.endurance.checks import Reference
from benchmarks.endurance.client import Lost, Refused
from benchmarks.endurance.processes import errors_in, log_of, raised_in, rss_mb, worker
from benchmarks.servers import Server, running, service
from photoz.model.bundle import ModelBundle

WARM_UP = 0.2  # of all requests: the allocator then has seen every size
SETTLE = 3.0  # seconds without requests before the memory is read

WANTED = (
    verdict.at_most("answers 5xx", "server_errors", 0),
    verdict.at_most("good requests without the right answer", "good_failed", 0),
    verdict.at_least("good requests answered rightly", "good_right", 1),
    verdict.at_most("workers that ended", "workers_ended", 0),
    verdict.at_most("growth of the worker's RSS after warm-up", "rss_growth", 0.05),
    verdict.told("RSS after warm-up, MB", "rss_warm_mb"),
    verdict.told("RSS at the end, MB", "rss_end_mb"),
    verdict.told("largest RSS seen, MB", "rss_max_mb"),
    verdict.told("tracebacks and errors in the service's log", "log_errors"),
    verdict.told("largest difference from the reference", "largest_difference"),
    verdict.told("good requests answered 429 and sent again", "good_busy"),
    verdict.told("requests per second", "requests_per_s"),
)


async def bombard(server: Server, chosen: Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Send everything; give the figures and what else is to be kept."""
    recipe = server.recipe
    reference = await Reference.ask(recipe.port, recipe.path)
    first, log, tally, material = await worker(server), log_of(server), Tally(), Material(recipe.path)
    curve: list[tuple[int, float]] = []
    began = asyncio.get_running_loop().time()
    settled = []
    warm = int(WARM_UP * chosen.n)
    for numbers in (range(warm), range(warm, chosen.n)):
        clients = [
            Client(recipe.port, chosen.seed, chosen.only, material, reference, tally) for _ in range(chosen.clients)
        ]
        await _traffic(clients, numbers, first, curve)
        await asyncio.sleep(SETTLE)
        settled.append(rss_mb([first]))
    took = asyncio.get_running_loop().time() - began - 2 * SETTLE
    last = await _pid(server)
    figures = {
        "server_errors": tally.server_errors,
        "good_failed": len(tally.failures),
        "good_right": tally.right,
        "workers_ended": float(last != first.pid or not first.is_running()),
        "rss_warm_mb": settled[0],
        "rss_end_mb": settled[1],
        "rss_max_mb": max(rss for _, rss in curve),
        "rss_growth": settled[1] / settled[0] - 1 if settled[0] else 1.0,
        "log_errors": errors_in(log()),
        "largest_difference": tally.difference,
        "good_busy": tally.busy,
        "requests_per_s": chosen.n / took,
    }
    kept = {"outcomes": dict(tally.outcomes), "examples": tally.examples, "failures": tally.failures[:100]}
    return figures, kept | {"rss_curve": _thinned(curve), "raised": raised_in(log())}


async def _pid(server: Server) -> int | None:
    try:
        return int((await worker(server)).pid)
    except (Refused, Lost, LookupError):
        return None


async def _traffic(
    clients: Sequence[Client], numbers: range, process: psutil.Process, curve: list[tuple[int, float]]
) -> None:
    shared = _watched(iter(numbers), process, curve)
    await asyncio.gather(*(client.work(shared) for client in clients))


def _watched(numbers: Iterator[int], process: psutil.Process, curve: list[tuple[int, float]]) -> Iterator[int]:
    for number in numbers:
        if number % 100 == 0:
            curve.append((number, rss_mb([process])))
        if number % 5000 == 0:
            print(f"{number:,} requests, RSS {curve[-1][1]:.1f} MB", flush=True)
        yield number


def _thinned(curve: Sequence[tuple[int, float]], points: int = 100) -> list[tuple[int, float]]:
    return list(curve[:: max(1, len(curve) // points)])


async def replay(server: Server, chosen: Namespace) -> None:
    """Send one attack again and show it."""
    attack = attack_of(chosen.seed, chosen.replay, Material(server.recipe.path))
    print(f"{attack.kind}, then {attack.finish}:\n{b''.join(attack.pieces)[:3000]!r}")
    for outcome, said in await answers(server.recipe.port, attack):
        print(f"{outcome}: {said[:1000]!r}")
    print(log_of(server)()[-6000:])


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("hostile", __doc__)
    parser.add_argument("-n", type=int, default=100_000, help="requests")
    parser.add_argument("--clients", type=int, default=24, help="at once")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="leave out the attacks of others")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="send this attack alone")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}, {chosen.n:,} requests, one in {GOOD_EVERY} good, {chosen.clients} clients")
    with running(service(chosen.bundle, ModelBundle.load(chosen.bundle).card.name)) as server:
        if chosen.replay is not None:
            asyncio.run(replay(server, chosen))
            return 0
        figures, kept = asyncio.run(bombard(server, chosen))
    for kind, counts in sorted(kept["outcomes"].items()):
        print(f"{kind:40} {', '.join(f'{outcome}: {n}' for outcome, n in counts.most_common())}")
    print(f"raised, says the log: {kept['raised']}")
    for example in kept["examples"]:
        print(example)
    print("\n".join(kept["failures"][:20]))
    return verdict.conclude("hostile", chosen, figures, WANTED, kept)
