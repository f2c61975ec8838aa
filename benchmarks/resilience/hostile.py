"""Send hostile and good requests in turns: the service has to stay up, answer correctly, and not grow.

Nine of ten requests are attacks; some of them share a connection with good requests. Each attack follows from --seed
and its number alone: `tests.attack.attacks.attack_of` makes it again.
"""

import argparse
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.processes import Server, memory_mb, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import background, sampled
from benchmarks.resilience.clients import Client, RequestLog
from benchmarks.resilience.known_answers import Mix, Reference
from tests.attack.attacks import Attack, attack_of

GOOD_EVERY = 10  # requests
SILENCE = 5.0  # seconds without an answer to an attack: recorded, no fault
PATIENCE = 0.3  # seconds before the sending side is shut down
PAUSE = 0.002  # seconds between the pieces of a request, and before a client leaves
RETRY = 1.0  # seconds until a good request that was answered 429 is sent again
EXAMPLES = 5  # of each kind and status that are kept
WARM_UP = 0.2  # of all requests: the allocator then has seen every size
SETTLE = 3.0  # seconds without requests before the memory is measured
SAMPLE = 1.0  # seconds between two measurements of the memory
LEFT, NOT_HTTP = "we left", "not HTTP"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=100_000, help="requests")
    parser.add_argument("--clients", type=int, default=24, help="at once")


@dataclass
class Tally:
    """What came of the requests: statuses by kind of attack, examples of 5xx and of what is not HTTP, good ones."""

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: list[dict[str, Any]] = field(default_factory=list)
    good: RequestLog = field(default_factory=RequestLog)
    server_errors: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: int, attack: Attack, outcome: str, answer: bytes = b"") -> None:
        """Record what one attack brought."""
        with self.lock:
            self.outcomes[attack.kind][outcome] += 1
            self.server_errors += outcome.startswith("5")
            is_odd = outcome.startswith("5") or outcome == NOT_HTTP
            if is_odd and self.outcomes[attack.kind][outcome] <= EXAMPLES:
                sent = repr(b"".join(attack.pieces)[:400])
                self.examples.append({"number": number, "outcome": outcome, "answer": repr(answer[:300]), "sent": sent})


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
        seen = seen or [(str(error), b"")]
    except NotHttp as error:
        seen.append((NOT_HTTP, str(error).encode()))
    finally:
        connection.close(reset=attack.finish == "reset")
    return seen


class Attacker:
    """Sends good requests and attacks, some of them on one connection that is kept."""

    def __init__(self, port: int, seed: int, mix: Mix, tally: Tally) -> None:
        self._port, self._seed, self._mix, self._tally = port, seed, mix, tally
        self._kept = Client(port, tally.good)
        self._shared = -1  # the number of the last attack on the connection of the good requests

    def work(self, numbers: Iterator[int]) -> None:
        """Send the requests of these numbers, which the attackers share."""
        for number in numbers:
            if number % GOOD_EVERY == 0:
                request = self._mix.choose()
                while (outcome := self._kept.ask(request)) == "busy":
                    time.sleep(RETRY)
                if outcome != "right":
                    print(f"good request {number}: {outcome}; its connection had attack {self._shared}", flush=True)
            else:
                self._attack(number, attack_of(self._seed, number))
        self._kept.close()

    def _attack(self, number: int, attack: Attack) -> None:
        try:
            # An odd number shares the connection of the good requests, which have to stay right after it.
            if number % 2 and attack.finish == "wait" and len(attack.pieces) == 1 and not attack.bodiless:
                self._shared = number
                reply = self._kept.exchange(attack.pieces[0])
                seen = [(str(reply.status), reply.body)]
            else:
                seen = answers(self._port, attack)
        except (Lost, NotHttp) as error:
            seen = [(NOT_HTTP if isinstance(error, NotHttp) else str(error), str(error).encode())]
        except Refused as error:
            seen = [(f"refused: {error}", b"")]
        for status, body in seen:
            self._tally.note(number, attack, status, body)


def bombard(server: Server, options: argparse.Namespace) -> tuple[list[Result], dict[str, Any]]:
    """Send everything; return the results and what else goes into the record."""
    port, tally, began, settled = server.recipe.port, Tally(), now(), []
    mix = Mix(Reference.ask(port, server.recipe.path), options.seed)
    worker, warm = server.worker(), int(WARM_UP * options.n)
    with sampled(lambda: memory_mb([worker]), SAMPLE) as curve:
        for part in (range(warm), range(warm, options.n)):
            numbers = iter(part)
            attackers = [Attacker(port, options.seed, mix, tally) for _ in range(options.clients)]
            with background([partial(attacker.work, numbers) for attacker in attackers]):
                pass
            time.sleep(SETTLE)
            settled.append(memory_mb([worker]))
            print(f"{part.stop:,} requests, {settled[-1]:.1f} MB", flush=True)
    survived = worker.is_running() and server.process.poll() is None
    errors, good, busy, (before, after) = server.errors(), tally.good, tally.good.outcomes()["busy"], settled
    results = [
        at_most("answers 5xx", tally.server_errors, 0),
        at_most("good requests without the right answer", len(good.failures) - busy, 0),
        at_least("good requests answered rightly", len(good.answers), 1),
        at_most("workers that ended", not survived, 0),
        at_most("growth of the worker's memory after warm-up", after / before - 1 if before else None, 0.05),
        reported("memory after warm-up, MB", before),
        reported("memory at the end, MB", after),
        reported("most memory, MB", max(mb for _, mb in curve)),
        reported("tracebacks and errors in the service's log", len(errors)),
        reported("largest difference from the reference", good.difference),
        reported("good requests answered 429 and sent again", busy),
        reported("requests per second", options.n / (now() - began - 2 * SETTLE)),
    ]
    details = {"outcomes": dict(tally.outcomes), "examples": tally.examples, "failures": good.examples(100, began)}
    return results, details | {"memory": curve[:: max(1, len(curve) // 100)], "log_errors": errors[:50]}


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        results, details = bombard(server, options)
    for kind, counts in sorted(details["outcomes"].items()):
        print(f"{kind:40} {', '.join(f'{outcome}: {n}' for outcome, n in counts.most_common())}")
    print(*details["log_errors"][:20], *details["examples"], *details["failures"][:20], sep="\n")
    return conclude(options, results, details)
