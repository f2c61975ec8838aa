"""Those who send hostile and good requests in turns, and their notes of what came of each."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.endurance.attacks import Attack, Material
from benchmarks.endurance.attacks_body import ON_BODIES
from benchmarks.endurance.attacks_wire import ON_HTTP
from benchmarks.endurance.checks import Good, Reference, WrongAnswer
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, Reply, now

GOOD_EVERY = 10  # requests
SILENCE = 5.0  # seconds without an answer to an attack: noted, no fault
PATIENCE = 0.3  # seconds before we say that nothing more will come
PAUSE = 0.002  # between the pieces of a request, and before a client goes away
EXAMPLES = 5  # of each kind and status that are kept

MAKERS, WEIGHTS = zip(*[(maker, weight) for weight, maker in (*ON_HTTP, *ON_BODIES)], strict=True)


@dataclass
class Tally:
    """What became of the requests.

    Parameters
    ----------
    outcomes : dict of Counter
        For each kind of attack: statuses, and words where there was none.
    examples : list of dict
        Of answers 5xx and of what is no HTTP.
    failures : list of str
        Of good requests.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    right: int = 0
    busy: int = 0
    difference: float = 0.0

    @property
    def server_errors(self) -> int:
        """How many answers were 5xx."""
        return sum(n for counts in self.outcomes.values() for status, n in counts.items() if status.startswith("5"))

    def note(self, number: int, attack: Attack, outcome: str, said: bytes = b"") -> None:
        """Take in what one attack brought."""
        self.outcomes[attack.kind][outcome] += 1
        is_odd = outcome.startswith("5") or outcome == "no HTTP"
        if is_odd and self.outcomes[attack.kind][outcome] <= EXAMPLES:
            sent = repr(b"".join(attack.pieces)[:400])
            self.examples.append(
                {"number": number, "kind": attack.kind, "outcome": outcome, "said": repr(said[:300]), "sent": sent}
            )


class Client:
    """One of many: good requests and attacks in turns, some on one connection that is kept."""

    def __init__(
        self, port: int, seed: int, only: Collection[str], material: Material, reference: Reference, tally: Tally
    ) -> None:
        self._port, self._seed, self._only = port, seed, only
        self._material, self._reference, self._tally = material, reference, tally
        self._kept: Connection | None = None

    async def work(self, numbers: Iterator[int]) -> None:
        """Send the requests of these numbers, which others take from as well."""
        for number in numbers:
            if number % GOOD_EVERY == 0:
                await self._good(good_of(self._reference, number))
            else:
                await self._attack(number, attack_of(self._seed, number, self._material))
        self._drop()

    async def _good(self, good: Good) -> None:
        try:
            reply = await self._ask_until_taken(good)
            self._tally.difference = max(self._tally.difference, good.check(reply))
            self._tally.right += 1
        except (Lost, Refused, NotHttp, WrongAnswer, LookupError, ValueError) as error:
            self._tally.failures.append(f"{good.kind}: {type(error).__name__}: {error}")
            self._drop()

    async def _ask_until_taken(self, good: Good) -> Reply:
        while (reply := await self._ask_kept(good.content)).status == 429:
            self._tally.busy += 1
            await asyncio.sleep(float(reply.headers.get("retry-after", 1)))
        return reply

    async def _ask_kept(self, content: bytes) -> Reply:
        if self._kept is None or self._kept.is_over():
            self._drop()
            self._kept = await Connection.open(self._port)
        reply = await self._kept.ask(content)
        if reply.closes:
            self._drop()
        return reply

    async def _attack(self, number: int, attack: Attack) -> None:
        if self._only and attack.kind not in self._only:
            return
        note = partial(self._tally.note, number, attack)
        try:
            if number % 2 and attack.finish == "wait" and len(attack.pieces) == 1 and not attack.bodiless:
                reply = await self._ask_kept(attack.pieces[0])  # what comes after it on this connection must be right
                note(str(reply.status), reply.body)
            else:
                for status, said in await answers(self._port, attack):
                    note(status, said)
        except (Lost, NotHttp, ValueError) as error:  # the connection that is kept
            self._drop()
            note("no HTTP" if isinstance(error, NotHttp | ValueError) else str(error), str(error).encode())
        except Refused as error:
            note(f"refused: {error}")

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept = None


async def answers(port: int, attack: Attack) -> list[tuple[str, bytes]]:
    """Attack on a connection of its own; give the statuses that came, or a word, each with what was said."""
    connection = await Connection.open(port)
    seen: list[tuple[str, bytes]] = []
    try:
        for piece in attack.pieces:
            await connection.send(piece)
            await asyncio.sleep(PAUSE if len(attack.pieces) > 1 or attack.finish in ("leave", "reset") else 0)
        if attack.finish in ("leave", "reset"):
            return [("we left", b"")]
        if attack.finish == "end":
            await _patience(connection)
            connection.finish_sending()
        while len(seen) < attack.answers:
            reply = await connection.receive(SILENCE, bodiless=attack.bodiless)
            seen.append((str(reply.status), reply.body))
    except Lost as error:
        seen = seen or [(str(error) if error.whole else "ended while we sent", b"")]
    except (NotHttp, ValueError) as error:
        seen.append(("no HTTP", str(error).encode()))
    finally:
        connection.close(reset=attack.finish == "reset")
    return seen


async def _patience(connection: Connection) -> None:
    """Wait a while for an answer: a server that sees the end of the requests may well not answer any more."""
    end = now() + PATIENCE
    while now() < end and not connection.is_over():
        await asyncio.sleep(PAUSE)


def attack_of(seed: int, number: int, material: Material) -> Attack:
    """Make the attack of this number: the same each time."""
    chance = random.Random(f"{seed}/{number}")
    attack: Attack = chance.choices(MAKERS, WEIGHTS)[0](chance, material)
    return attack


def good_of(reference: Reference, number: int) -> Good:
    """Choose a good request: mostly one cutout, sometimes 8 or 64, sometimes a file."""
    turn = number // GOOD_EVERY
    if turn % 50 == 0:
        return reference.infer(64, turn)
    if turn % 5 == 0:
        return reference.file(1 + turn % 3, turn)
    return reference.infer(8 if turn % 7 == 0 else 1, turn)
