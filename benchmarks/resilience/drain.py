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
from typing import Any

from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.resilience.known_answers import ALIVE, LONG, READY, CheckedRequest, Reference, plot
from benchmarks.resilience.load_clients import Client, RequestLog

AHEAD = 0.4  # seconds from the beginning of the plot to SIGTERM; the long request begins half of that later
POLL = 0.01  # seconds between two polls of /readyz
OVER = 60.0  # seconds after SIGTERM at which clients stop


@dataclass
class Round:
    """One shutdown of the service as its clients saw it; times in seconds."""

    log: RequestLog = field(default_factory=RequestLog)
    ready: list[tuple[float, str]] = field(default_factory=list)
    sigterm_at: float = float("inf")
    exit_s: float = OVER
    exit_code: int | None = None

    def outcomes(self) -> Counter[str]:
        """Count the requests that were answered rightly, and the others by their outcome and time."""
        counted = Counter(right=len(self.log.answers))
        for failure in self.log.failures:
            outcome = "lost_kept" if failure.outcome == "crossed" else failure.outcome
            is_before = outcome.startswith(("lost", "refused")) and failure.asked_at < self.sigterm_at
            counted["lost_before" if is_before else outcome] += 1
        return counted

    @property
    def was_unready(self) -> bool:
        """Whether /readyz answered 503 after SIGTERM and before the first refusal."""
        after = [said for when, said in self.ready if when >= self.sigterm_at]
        return "503" in (after[: after.index("refused")] if "refused" in after else after)

    def kept(self) -> dict[str, Any]:
        """Return what goes into the record."""
        after = [(round(when - self.sigterm_at, 3), said) for when, said in self.ready if when >= self.sigterm_at]
        examples = self.log.examples(20, self.sigterm_at)
        ended = {"exit_s": self.exit_s, "exit_code": self.exit_code}
        return {"outcomes": dict(self.outcomes()), "examples": examples, "ready_after_s": after[:200]} | ended


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=12, help="half of them keep their connections")


def results_of(rounds: Sequence[Round]) -> list[Result]:
    """Sum the rounds up."""
    total, n = sum((one.outcomes() for one in rounds), Counter[str]()), len(rounds)
    lost = total["lost_before"] + total["lost_kept"] + total["lost_fresh"]
    kinds = [{answer.kind for answer in one.log.answers} for one in rounds]
    long, plots = (sum(kind in answered for answered in kinds) for kind in (f"infer-{LONG}", "plot"))
    unready = sum(one.was_unready for one in rounds)
    return [
        at_most("requests lost", lost, 0),
        at_most("... of which sent before SIGTERM", total["lost_before"], 0),
        at_most("... of which sent later on a connection that was kept", total["lost_kept"], 0),
        at_most("... of which sent later on a fresh connection", total["lost_fresh"], 0),
        at_most("answers that are wrong, or 5xx other than 503", total["wrong"], 0),
        at_least("requests answered rightly", total["right"], 1),
        at_least("share of rounds in which the long request was answered", long / n, 1),
        at_least("share of rounds in which the plot was answered", plots / n, 1),
        at_least("share of rounds in which /readyz said 503 before connections were refused", unready / n, 1),
        at_least("share of rounds that ended with exit code 0", sum(one.exit_code == 0 for one in rounds) / n, 1),
        reported("answers 503 and 429", total["unavailable"] + total["busy"]),
        reported("connections cut while the request was being sent", total["cut"]),
        reported("longest time from SIGTERM to the end, s", max(one.exit_s for one in rounds)),
    ]


def keep_asking(port: int, requests: Sequence[CheckedRequest], seen: Round, *, keeps: bool) -> None:
    """Ask without pause until a connection is refused."""
    client = Client(port, seen.log, keeps=keeps)
    for request in cycle(requests):
        if now() > seen.sigterm_at + OVER or client.ask(request) == "refused":
            break
    client.close()


def poll(port: int, seen: Round) -> None:
    """Poll /readyz until a connection is refused."""
    said = ""
    while now() < seen.sigterm_at + OVER and said != "refused":
        asked_at = now()
        try:
            with closing(Connection(port)) as connection:
                said = str(connection.ask(READY).status)
        except Refused:
            said = "refused"
        except (Lost, NotHttp) as error:
            said = str(error)
        seen.ready.append((asked_at, said))
        time.sleep(POLL)


def stop_under_load(server: Server, requests: dict[str, list[CheckedRequest]], clients: int, delay: float) -> Round:
    """Load a service, send SIGTERM to its first process, and watch until it has ended."""
    seen, port = Round(), server.recipe.port
    with ThreadPoolExecutor(clients + 3) as pool:
        running = [pool.submit(poll, port, seen)]
        for number in range(clients):
            kind = requests["few" if number % 4 < 2 else "light"]
            running.append(pool.submit(keep_asking, port, kind, seen, keeps=bool(number % 2)))
        time.sleep(delay)
        for request in requests["slow"]:
            running.append(pool.submit(Client(port, seen.log, keeps=False).ask, request))
            time.sleep(AHEAD / 2)
        seen.sigterm_at = now()
        server.process.terminate()
        seen.exit_s, seen.exit_code = server.wait_for_exit(OVER)
    for one in running:
        one.result()
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
        outcomes = dict(seen.outcomes())
        print(f"round {number + 1}: exit code {seen.exit_code} after {seen.exit_s:.2f} s; {outcomes}", flush=True)
    return conclude(options, results_of(rounds), {"rounds": [one.kept() for one in rounds]})
