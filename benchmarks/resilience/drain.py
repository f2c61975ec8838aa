"""Stop the service with SIGTERM under load: every request that it had accepted has to be answered.

Raw clients that never retry keep asking, on kept and on fresh connections, until none is accepted. A request that was
sent whole on a connection, and that brought no whole answer, is lost. A request of 1,000 cutouts and a plot are under
way at SIGTERM. A poll of /readyz has to see 503 before connections are refused.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.resilience.clients import Client, Failure, RequestLog
from benchmarks.resilience.known_answers import ALIVE, LONG, READY, CheckedRequest, Reference, plot

AHEAD = 0.4  # seconds from the beginning of the plot to SIGTERM; the long request begins half of that later
POLL = 0.01  # seconds between two polls of /readyz
REFUSED = "refused"
OVER = 60.0  # seconds after SIGTERM at which clients stop


@dataclass
class Round:
    """One shutdown of the service as its clients saw it; times in seconds."""

    log: RequestLog = field(default_factory=RequestLog)
    ready: list[tuple[float, str]] = field(default_factory=list)  # when /readyz was asked, and its status or a word
    sigterm_at: float = float("inf")
    exit_s: float = OVER
    exit_code: int | None = None

    @property
    def was_unready(self) -> bool:
        """Whether /readyz answered 503 after SIGTERM and before the first refusal."""
        after = [status for when, status in self.ready if when >= self.sigterm_at]
        return "503" in (after[: after.index(REFUSED)] if REFUSED in after else after)

    def lost(self) -> list[Failure]:
        """Return the requests that were lost: refused connections count until SIGTERM."""
        words = ("lost", "crossed")
        late = [failure for failure in self.log.failures if failure.outcome.startswith(words)]
        early = [failure for failure in self.log.failures if failure.asked_at < self.sigterm_at]
        return late + [failure for failure in early if failure.outcome == REFUSED]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=12, help="half of them keep their connections")


def results_of(rounds: Sequence[Round]) -> list[Result]:
    """Sum the rounds up."""
    outcomes, n = sum((seen.log.outcomes() for seen in rounds), Counter[str]()), len(rounds)
    kinds = [{answer.kind for answer in seen.log.answers} for seen in rounds]
    long, plots = (sum(kind in answered for answered in kinds) / n for kind in (f"infer-{LONG}", "plot"))
    unready, clean = (sum(seen.was_unready for seen in rounds) / n, sum(seen.exit_code == 0 for seen in rounds) / n)
    return [
        at_most("requests lost", sum(len(seen.lost()) for seen in rounds), 0),
        at_most("answers that are wrong, or 5xx other than 503", outcomes["wrong"], 0),
        at_least("requests answered rightly", sum(len(seen.log.answers) for seen in rounds), 1),
        at_least("share of rounds in which the long request was answered", long, 1),
        at_least("share of rounds in which the plot was answered", plots, 1),
        at_least("share of rounds in which /readyz said 503 before connections were refused", unready, 1),
        at_least("share of rounds that ended with exit code 0", clean, 1),
        reported("answers 503 and 429", outcomes["unavailable"] + outcomes["busy"]),
        reported("connections cut while the request was being sent", outcomes["cut"]),
        reported("time from SIGTERM to the end, s", [seen.exit_s for seen in rounds]),
    ]


def keep_asking(port: int, requests: Sequence[CheckedRequest], seen: Round, *, keeps: bool) -> None:
    """Ask without pause until a connection is refused."""
    client = Client(port, seen.log, keeps=keeps)
    for request in cycle(requests):
        if now() > seen.sigterm_at + OVER or client.ask(request) == REFUSED:
            break
    client.close()


def poll(port: int, seen: Round) -> None:
    """Poll /readyz until a connection is refused."""
    status = ""
    while now() < seen.sigterm_at + OVER and status != REFUSED:
        asked_at = now()
        try:
            with closing(Connection(port)) as connection:
                status = str(connection.ask(READY).status)
        except Refused:
            status = REFUSED
        except (Lost, NotHttp) as error:
            status = str(error)
        seen.ready.append((asked_at, status))
        time.sleep(POLL)


def stop_under_load(server: Server, requests: dict[str, list[CheckedRequest]], clients: int, delay: float) -> Round:
    """Load a service, send SIGTERM to its first process, and watch until it has ended."""
    seen, port = Round(), server.recipe.port
    with ThreadPoolExecutor(clients + 3) as pool:
        calls = [pool.submit(poll, port, seen)]
        for number in range(clients):
            kind = requests["few" if number % 4 < 2 else "light"]
            calls.append(pool.submit(keep_asking, port, kind, seen, keeps=bool(number % 2)))
        time.sleep(delay)
        for request in requests["slow"]:
            calls.append(pool.submit(Client(port, seen.log, keeps=False).ask, request))
            time.sleep(AHEAD / 2)
        seen.sigterm_at = now()
        server.process.terminate()
        seen.exit_s, seen.exit_code = server.wait_for_exit(OVER)
    for call in calls:
        call.result()
    return seen


def run(options: argparse.Namespace) -> int:
    chance, rounds = random.Random(options.seed), []
    with running(service(options.bundle)) as server:
        reference = Reference.ask(server.recipe.port, server.recipe.path)
    few = [reference.infer(1), reference.infer(64), reference.file(2), reference.infer(1, 7)]
    requests = {"few": few, "light": [ALIVE], "slow": [plot(), reference.infer(LONG)]}
    for number in range(options.rounds):
        with running(service(options.bundle)) as server:
            seen = stop_under_load(server, requests, options.clients, chance.uniform(0.3, 1.3))
        rounds.append(seen)
        outcomes = dict(seen.log.outcomes())
        print(f"round {number + 1}: exit code {seen.exit_code} after {seen.exit_s:.2f} s; {outcomes}", flush=True)
    examples = [seen.log.examples(20, seen.sigterm_at) for seen in rounds]
    return conclude(options, results_of(rounds), {"failures": examples})
