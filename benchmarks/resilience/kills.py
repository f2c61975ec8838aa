"""Kill the worker process again and again under clients of the SDK: no row may be missing, doubled or wrong.

Some clients use `predict_parts` for many cutouts, others `predict` for a few, with the SDK's own retries. Their rows
are compared with those of the same calls before the first kill. A raw client measures how long no answer comes.
"""

import argparse
import random
import signal
import time
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, now
from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.resilience.known_answers import LONG, CheckedRequest, Reference, WrongAnswer
from benchmarks.resilience.sdk_clients import FEW, SdkLog, sdk_load

RETRY = 0.01  # seconds between tries of the raw client
GIVE_UP = 60.0
BETWEEN = (1.0, 3.0)  # seconds from an answer to the next kill
PAUSE = 0.0  # seconds between two calls of a client


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4, help="threads, each with a client of its own")
    parser.add_argument("--rows", type=int, default=LONG, help="cutouts in a call of predict_parts")


def results_of(log: SdkLog, times: Sequence[float]) -> list[Result]:
    """Sum up the calls, and the times from a kill to the next answer."""
    return [
        at_least("kills", len(times), 1),
        at_most("rows not predicted", log.missing, 0),
        at_most("rows predicted more than once", log.doubled, 0),
        at_most("rows with other values than without kills", log.wrong, 0),
        at_most("calls that raised", len(log.raised), 0),
        at_least("rows predicted under kills", log.rows, 1),
        at_most("median time from a kill to the next answer, s", float(np.median(times)), 3.0),
        at_most("longest time from a kill to the next answer, s", max(times), 3.0),
        reported("largest difference from the run without kills", log.difference),
        reported("longest call, s", log.longest_s),
    ]


def time_until_answered(port: int, request: CheckedRequest, since: float) -> float:
    """Ask until a right answer comes; return the seconds since then."""
    while now() < since + GIVE_UP:
        try:
            with closing(Connection(port)) as connection:
                request.check(connection.ask(request.content, GIVE_UP))
                return now() - since
        except (Refused, Lost, NotHttp, WrongAnswer):
            time.sleep(RETRY)
    return GIVE_UP


def kill_repeatedly(server: Server, request: CheckedRequest, options: argparse.Namespace) -> list[float]:
    """Kill the worker as often as is asked for; return the seconds until the service answered again."""
    chance, times = random.Random(options.seed), []
    for number in range(options.kills):
        time.sleep(chance.uniform(*BETWEEN))
        worker = server.worker()
        killed = now()
        worker.send_signal(signal.SIGKILL)
        times.append(time_until_answered(server.recipe.port, request, killed))
        print(f"kill {number + 1}: process {worker.pid}; answered again after {times[-1]:.2f} s", flush=True)
    return times


def run(options: argparse.Namespace) -> int:
    log = SdkLog()
    calls = [(options.rows if number % 2 else FEW, PAUSE) for number in range(options.clients)]
    with running(service(options.bundle)) as server:
        request = Reference.ask(server.recipe.port, server.recipe.path).infer(1)
        with sdk_load(server.recipe.port, calls, log):
            times = kill_repeatedly(server, request, options)
    print(f"\n{log.calls} calls", *log.raised[:10], sep="\n")
    return conclude(options, results_of(log, times), {"raised": log.raised[:50], "seconds_until_answered": times})
