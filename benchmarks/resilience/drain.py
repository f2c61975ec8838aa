"""Tell the service to end, under load: whatever it had taken has to be answered.

Raw clients that never ask again keep asking, on connections that are kept and on fresh ones, until nobody takes a
connection. A request whose last byte was sent on a connection that was made, and that brought no whole answer, is
lost. A request of 1,000 cutouts and a plot are under way at the moment of SIGTERM. A poll of /readyz has to see 503
before nobody listens any more.
"""

import asyncio
import random
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cutouts import EXAMPLES
from benchmarks.endurance import verdict
from benchmarks.endurance.checks import Good, Reference, WrongAnswer, alive, ready
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, Reply, now, request
from benchmarks.endurance.processes import wait_for_exit
from benchmarks.servers import Recipe, Server, running, service
from photoz.model.bundle import ModelBundle

LONG = 1000  # cutouts in the long request
AHEAD = 0.4  # seconds from the beginning of the plot to SIGTERM; the long request goes half of that later
POLL = 0.01  # seconds between two questions whether it is ready
OVER = 60.0  # seconds after SIGTERM at which clients stop

WANTED = (
    verdict.at_most("requests lost", "lost", 0),
    verdict.at_most("... of which sent before SIGTERM", "lost_before", 0),
    verdict.at_most("... of which sent later on a connection that was kept", "lost_kept", 0),
    verdict.at_most("... of which sent later on a fresh connection", "lost_fresh", 0),
    verdict.at_most("answers that are wrong, or 5xx other than 503", "wrong", 0),
    verdict.at_least("requests answered rightly", "right", 1),
    verdict.at_least("share of rounds in which the long request was answered", "long_share", 1),
    verdict.at_least("share of rounds in which the plot was answered", "plot_share", 1),
    verdict.at_least("share of rounds in which /readyz said 503 before nobody listened", "unready_share", 1),
    verdict.at_least("share of rounds that ended with exit code 0", "clean_share", 1),
    verdict.told("answers 503", "unavailable"),
    verdict.told("connections cut while the request was being sent", "cut"),
    verdict.told("longest time from SIGTERM to the end, s", "exit_max_s"),
)


@dataclass
class Round:
    """What one end of the service looked like from outside."""

    outcomes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    ready: list[tuple[float, str]] = field(default_factory=list)
    told_at: float = float("inf")
    exit_s: float = OVER
    exit_code: int | None = None

    def note(self, outcome: str, what: object = "") -> None:
        """Count an outcome, and keep some words on it."""
        self.outcomes[outcome] += 1
        if outcome != "right" and len(self.examples) < 20:
            self.examples.append(f"{now() - self.told_at:+.3f} s: {outcome}: {what}"[:200])

    @property
    def was_unready(self) -> bool:
        """Whether 503 was the answer to /readyz, after SIGTERM and before the first refusal."""
        after = [said for when, said in self.ready if when >= self.told_at]
        listened = after[: after.index("refused")] if "refused" in after else after
        return "503" in listened


class Client:
    """Asks without pause until nobody takes a connection, and never again what failed."""

    def __init__(self, port: int, goods: Sequence[Good], seen: Round, *, keeps: bool) -> None:
        self._port, self._goods, self._seen, self._keeps = port, goods, seen, keeps
        self._connection: Connection | None = None

    async def work(self) -> None:
        """Ask."""
        number = 0
        while now() < self._seen.told_at + OVER:
            good, number = self._goods[number % len(self._goods)], number + 1
            try:
                await self._ask(good)
            except Refused:
                break
        self._drop()

    async def _ask(self, good: Good) -> None:
        is_fresh = self._connection is None or self._connection.is_over()
        if self._connection is None or is_fresh:
            self._drop()
            self._connection = await Connection.open(self._port)
        sent_before = now() < self._seen.told_at
        outcome, reply = await asked(self._connection, good, self._seen)
        if outcome == "lost":
            self._seen.note("lost_before" if sent_before else "lost_fresh" if is_fresh else "lost_kept", good.kind)
        if reply is None or reply.closes or not self._keeps:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


async def asked(connection: Connection, good: Good, seen: Round) -> tuple[str, Reply | None]:
    """Ask once and note what became of it."""
    try:
        reply = await connection.ask(good.content)
    except (Lost, NotHttp) as error:
        outcome = "lost" if isinstance(error, NotHttp) or error.whole else "cut"
        seen.note(outcome, f"{good.kind}: {error}")
        return outcome, None
    if reply.status in (429, 503):
        seen.note("unavailable", good.kind)
        return "unavailable", reply
    try:
        good.check(reply)
    except WrongAnswer as error:
        seen.note("wrong", error)
        return "wrong", reply
    seen.note("right")
    return "right", reply


def plot() -> Good:
    """Ask for a plot of the examples."""
    content = request("POST", "/evaluate?plot=scatter", EXAMPLES.read_bytes(), content_type="application/x-npz")
    return Good("plot", content, 8, lambda reply: 0.0 if reply.body.startswith(b"\x89PNG") else float("inf"))


async def _once(port: int, good: Good, seen: Round, name: str) -> None:
    try:
        connection = await Connection.open(port)
    except Refused as error:
        seen.note(f"{name}_refused", error)
        return
    outcome, _ = await asked(connection, good, seen)
    seen.note(f"{name}_{outcome}")
    connection.close()


async def _poll(port: int, seen: Round) -> None:
    while now() < seen.told_at + OVER:
        asked_at = now()
        try:
            connection = await Connection.open(port)
            said = str((await connection.ask(ready())).status)
            connection.close()
        except Refused:
            said = "refused"
        except (Lost, NotHttp) as error:
            said = str(error)
        seen.ready.append((asked_at, said))
        if said == "refused":
            return
        await asyncio.sleep(POLL)


async def end_under_load(server: Server, chosen: Namespace, goods: dict[str, list[Good]], delay: float) -> Round:
    """Load a service, tell it to end, and watch until it has ended."""
    seen, port = Round(), server.recipe.port
    clients = [
        Client(port, goods["few" if number % 4 < 2 else "light"], seen, keeps=bool(number % 2))
        for number in range(chosen.clients)
    ]
    tasks = [asyncio.create_task(client.work()) for client in clients]
    tasks.append(asyncio.create_task(_poll(port, seen)))
    await asyncio.sleep(delay)
    tasks.append(asyncio.create_task(_once(port, goods["plot"][0], seen, "plot")))
    await asyncio.sleep(AHEAD / 2)
    tasks.append(asyncio.create_task(_once(port, goods["long"][0], seen, "long")))
    await asyncio.sleep(AHEAD / 2)
    seen.told_at = now()
    server.process.terminate()
    ended = await asyncio.to_thread(wait_for_exit, server, OVER)
    if ended is not None:
        seen.exit_s, seen.exit_code = ended
    await asyncio.gather(*tasks)
    return seen


def figures_of(rounds: Sequence[Round]) -> dict[str, float]:
    """Sum the rounds up."""
    total: Counter[str] = Counter()
    for one in rounds:
        total.update(one.outcomes)
    counted = ("lost", "lost_before", "lost_kept", "lost_fresh", "wrong", "right", "unavailable", "cut")
    shares: dict[str, list[float]] = {
        "long_share": [one.outcomes["long_right"] for one in rounds],
        "plot_share": [one.outcomes["plot_right"] for one in rounds],
        "unready_share": [one.was_unready for one in rounds],
        "clean_share": [one.exit_code == 0 for one in rounds],
    }
    figures = {name: float(total[name]) for name in counted}
    figures |= {name: sum(values) / len(rounds) for name, values in shares.items()}
    return figures | {"exit_max_s": max(one.exit_s for one in rounds)}


def _prepare(recipe: Recipe) -> dict[str, list[Good]]:
    with running(recipe):
        reference = asyncio.run(Reference.ask(recipe.port, recipe.path))
    few = [reference.infer(1), reference.infer(64), reference.file(2), reference.infer(1, 7)]
    return {"few": few, "light": [alive()], "long": [reference.infer(LONG)], "plot": [plot()]}


def main(arguments: Sequence[str]) -> int:
    parser = verdict.parser("drain", __doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=12, help="half of them keep their connections")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}, {chosen.rounds} rounds, {chosen.clients} clients")
    chance, rounds = random.Random(chosen.seed), []
    name = ModelBundle.load(chosen.bundle).card.name
    goods = _prepare(service(chosen.bundle, name))
    for number in range(chosen.rounds):
        with running(service(chosen.bundle, name)) as server:
            seen = asyncio.run(end_under_load(server, chosen, goods, chance.uniform(0.3, 1.3)))
        rounds.append(seen)
        print(
            f"round {number + 1}: exit code {seen.exit_code} after {seen.exit_s:.2f} s; {dict(seen.outcomes)}",
            flush=True,
        )
    print("\n".join(example for one in rounds[:3] for example in one.examples))
    return verdict.conclude("drain", chosen, figures_of(rounds), WANTED, {"rounds": [_kept(one) for one in rounds]})


def _kept(one: Round) -> dict[str, Any]:
    after = [(round(when - one.told_at, 3), said) for when, said in one.ready if when >= one.told_at]
    return {
        "outcomes": dict(one.outcomes),
        "examples": one.examples,
        "ready_after_s": after[:200],
        "exit_s": one.exit_s,
        "exit_code": one.exit_code,
    }
