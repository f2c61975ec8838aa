"""Hostile requests in turns with good ones: the service has to stay up, give right answers, and not grow.

Nine of ten requests are attacks; some of them share a connection with good requests. Each attack follows from --seed
and its number alone: --replay NUMBER sends that one again and shows it.
"""

import argparse
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.processes import Server, rss_mb, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import background, sampled
from benchmarks.resilience.attacks import Attack, Material
from benchmarks.resilience.attacks_bodies import ON_BODIES
from benchmarks.resilience.attacks_http import ON_HTTP
from benchmarks.resilience.known_answers import CheckedRequest, Reference, WrongAnswer
from benchmarks.resilience.load_clients import Client, LostRequest, RequestLog
from benchmarks.resilience.logs import errors_in, raised_in

GOOD_EVERY = 10  # requests
SILENCE = 5.0  # seconds without an answer to an attack: recorded, no fault
PATIENCE = 0.3  # seconds before the sending side is shut down
PAUSE = 0.002  # seconds between the pieces of a request, and before a client leaves
EXAMPLES = 5  # of each kind and status that are kept
WARM_UP = 0.2  # of all requests: the allocator then has seen every size
SETTLE = 3.0  # seconds without requests before the memory is measured
SAMPLE = 1.0  # seconds between two measurements of the memory
LEFT, NOT_HTTP = "we left", "not HTTP"

MAKERS, WEIGHTS = zip(*[(maker, weight) for weight, maker in (*ON_HTTP, *ON_BODIES)], strict=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=100_000, help="requests")
    parser.add_argument("--clients", type=int, default=24, help="at once")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="send this attack alone and show it")


@dataclass
class Tally:
    """What came of the requests: statuses by kind of attack, examples of 5xx and of what is not HTTP, failures."""

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def server_errors(self) -> int:
        """How many answers were 5xx."""
        return sum(n for counts in self.outcomes.values() for status, n in counts.items() if status.startswith("5"))

    def note(self, number: int, attack: Attack, outcome: str, said: bytes = b"") -> None:
        """Record what one attack brought."""
        with self.lock:
            self.outcomes[attack.kind][outcome] += 1
            is_odd = outcome.startswith("5") or outcome == NOT_HTTP
            if is_odd and self.outcomes[attack.kind][outcome] <= EXAMPLES:
                example = {"number": number, "kind": attack.kind, "outcome": outcome, "said": repr(said[:300])}
                self.examples.append(example | {"sent": repr(b"".join(attack.pieces)[:400])})


def attack_of(seed: int, number: int, material: Material) -> Attack:
    """Make the attack of this number: the same each time."""
    chance = random.Random(f"{seed}/{number}")
    attack: Attack = chance.choices(MAKERS, WEIGHTS)[0](chance, material)
    return attack


def good_of(reference: Reference, number: int) -> CheckedRequest:
    """Choose a good request: mostly one cutout, sometimes 8 or 64, sometimes a file."""
    turn = number // GOOD_EVERY
    if turn % 50 == 0:
        return reference.infer(64, turn)
    if turn % 5 == 0:
        return reference.file(1 + turn % 3, turn)
    return reference.infer(8 if turn % 7 == 0 else 1, turn)


def answers(port: int, attack: Attack) -> list[tuple[str, bytes]]:
    """Attack on a new connection; return the statuses that came, or a word, each with the body."""
    connection, seen = Connection(port), list[tuple[str, bytes]]()
    leaves = attack.finish in ("leave", "reset")
    try:
        for piece in attack.pieces:
            connection.send(piece)
            time.sleep(PAUSE if len(attack.pieces) > 1 or leaves else 0)
        if leaves:
            return [(LEFT, b"")]
        if attack.finish == "end":
            end = now() + PATIENCE  # a server that sees the end of the requests may not answer any more
            while now() < end and not connection.is_over():
                time.sleep(PAUSE)
            connection.finish_sending()
        while len(seen) < attack.answers:
            reply = connection.receive(SILENCE, bodiless=attack.bodiless)
            seen.append((str(reply.status), reply.body))
    except Lost as error:
        seen = seen or [(str(error) if error.sent else "ended while we sent", b"")]
    except NotHttp as error:
        seen.append((NOT_HTTP, str(error).encode()))
    finally:
        connection.close(reset=attack.finish == "reset")
    return seen


class Attacker:
    """Sends good requests and attacks, some of them on one connection that is kept."""

    def __init__(self, port: int, seed: int, reference: Reference, material: Material, tally: Tally) -> None:
        self._port, self._seed, self._reference, self._material = port, seed, reference, material
        self._tally, self._kept = tally, Client(port, RequestLog())

    def work(self, numbers: Iterator[int]) -> None:
        """Send the requests of these numbers, which the attackers share."""
        for number in numbers:
            if number % GOOD_EVERY == 0:
                self._ask(good_of(self._reference, number))
            else:
                self._attack(number, attack_of(self._seed, number, self._material))
        self._kept.close()

    def _ask(self, good: CheckedRequest) -> None:
        try:
            while (reply := self._kept.exchange(good.content)).status == 429:
                self._tally.busy += 1
                time.sleep(float(reply.headers.get("retry-after", 1)))
            self._tally.differences.append(good.check(reply))
        except (LostRequest, Refused, WrongAnswer) as error:
            self._tally.failures.append(f"{good.kind}: {type(error).__name__}: {error}")
            self._kept.close()

    def _attack(self, number: int, attack: Attack) -> None:
        try:
            # An odd number shares the connection of the good requests, which have to stay right after it.
            if number % 2 and attack.finish == "wait" and len(attack.pieces) == 1 and not attack.bodiless:
                reply = self._kept.exchange(attack.pieces[0])
                seen = [(str(reply.status), reply.body)]
            else:
                seen = answers(self._port, attack)
        except LostRequest as error:
            is_http = not isinstance(error.__cause__, NotHttp)
            seen = [(str(error) if is_http else NOT_HTTP, str(error).encode())]
        except Refused as error:
            seen = [(f"refused: {error}", b"")]
        for status, said in seen:
            self._tally.note(number, attack, status, said)


def bombard(server: Server, options: argparse.Namespace) -> tuple[list[Result], dict[str, Any]]:
    """Send everything; return the results and what else goes into the record."""
    port, tally, began, settled = server.recipe.port, Tally(), now(), []
    reference, material, worker = Reference.ask(port, server.recipe.path), Material(server.recipe.path), server.worker()
    warm = int(WARM_UP * options.n)
    with sampled(lambda: rss_mb([worker]), SAMPLE) as curve:
        for part in (range(warm), range(warm, options.n)):
            numbers = iter(part)
            attackers = [Attacker(port, options.seed, reference, material, tally) for _ in range(options.clients)]
            with background([partial(attacker.work, numbers) for attacker in attackers]):
                pass
            time.sleep(SETTLE)
            settled.append(rss_mb([worker]))
            print(f"{part.stop:,} requests, {settled[-1]:.1f} MB", flush=True)
    survived = worker.is_running() and server.process.poll() is None
    log, before, after = server.log.read_text(errors="replace"), *settled
    results = [
        at_most("answers 5xx", tally.server_errors, 0),
        at_most("good requests without the right answer", len(tally.failures), 0),
        at_least("good requests answered rightly", len(tally.differences), 1),
        at_most("workers that ended", not survived, 0),
        at_most("growth of the worker's RSS after warm-up", after / before - 1 if before else None, 0.05),
        reported("RSS after warm-up, MB", before),
        reported("RSS at the end, MB", after),
        reported("largest RSS seen, MB", max(rss for _, rss in curve)),
        reported("tracebacks and errors in the service's log", errors_in(log)),
        reported("largest difference from the reference", max(tally.differences, default=None)),
        reported("good requests answered 429 and sent again", tally.busy),
        reported("requests per second", options.n / (now() - began - 2 * SETTLE)),
    ]
    kept = {"outcomes": dict(tally.outcomes), "examples": tally.examples, "failures": tally.failures[:100]}
    return results, kept | {"rss_curve": curve[:: max(1, len(curve) // 100)], "raised": raised_in(log)}


def replay(server: Server, options: argparse.Namespace) -> int:
    """Send one attack again and show it."""
    attack = attack_of(options.seed, options.replay, Material(server.recipe.path))
    print(f"{attack.kind}, then {attack.finish}:\n{b''.join(attack.pieces)[:3000]!r}")
    for outcome, said in answers(server.recipe.port, attack):
        print(f"{outcome}: {said[:1000]!r}")
    print(server.log.read_text(errors="replace")[-6000:])
    return 0


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        if options.replay is not None:
            return replay(server, options)
        results, kept = bombard(server, options)
    for kind, counts in sorted(kept["outcomes"].items()):
        print(f"{kind:40} {', '.join(f'{outcome}: {n}' for outcome, n in counts.most_common())}")
    print(f"raised, says the log: {kept['raised']}", *kept["examples"], *kept["failures"][:20], sep="\n")
    return conclude(options, results, kept)
