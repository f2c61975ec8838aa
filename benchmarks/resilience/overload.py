"""Offer twice the service's capacity: it must not serve less for that, and must refuse the rest at once.

The capacity is measured before and after each overload, by clients that wait for their answers, since the speed of a
machine may change. wrk then offers twice that rate at random times from the same processors, while one more client
measures how long a refusal takes.
"""

import argparse
import json
import subprocess
import tempfile
import threading
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.http_client import Connection, Lost, now
from benchmarks.harness.messages import infer_body, infer_request
from benchmarks.harness.processes import Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import background

# Cutouts in a request, clients for the capacity, connections of the overload.
LOADS = {"singles": (1, 32, 512), "batches": (64, 4, 256)}
TIMES = 2.0  # the capacity
ROUNDS = 9
SCRIPT = Path(__file__).with_name("overload.lua")
PROBE_EVERY = 0.1  # seconds

Round = dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=8.0, help="of each overload; the capacity takes half of it")


def results_of(name: str, rounds: list[Round]) -> list[Result]:
    """Judge the rounds of one kind of requests."""

    def column(key: str) -> list[float]:
        return [measured[key] for measured in rounds]

    return [
        at_least(f"{name}: goodput, of the capacity", column("goodput"), 0.9),
        at_least(f"{name}: refused with 429", column("refused"), 1),
        at_most(f"{name}: p99 of refusals, ms", column("refused_p99_ms"), 50),
        at_most(f"{name}: refusals without Retry-After", max(column("without_retry_after")), 0),
        at_most(f"{name}: requests lost, or answered otherwise", max(column("lost")) + max(column("others")), 0),
        reported(f"{name}: capacity, requests/s", column("capacity")),
    ]


def overload(server: Server, images: int, connections: int, rate: float, seconds: float) -> Round:
    """Send requests at a rate; return what came of them."""
    body, refusals, stop = infer_body(*cutouts(images), "pdf"), list[tuple[float, bool]](), threading.Event()
    with tempfile.NamedTemporaryFile() as file, background([partial(probe, server, images, refusals, stop)], stop):
        Path(file.name).write_bytes(body.content)
        url = f"http://127.0.0.1:{server.recipe.port}{server.recipe.path}"
        options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout=60s", "-s", str(SCRIPT), url]
        command = ["wrk", *options, "--", file.name, str(connections / rate), *body.headers]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    took_ms = [1e3 * took for took, _ in refusals]
    measured: Round = json.loads(done.stdout.splitlines()[-1])
    measured["refused_p99_ms"] = float(np.percentile(took_ms, 99)) if took_ms else float("inf")
    return measured | {"without_retry_after": sum(not has_time for _, has_time in refusals)}


def probe(server: Server, images: int, refusals: list[tuple[float, bool]], stop: threading.Event) -> None:
    """Note how long each refusal took, and whether it says when to try again."""
    request = infer_request(server.recipe.path, *cutouts(images), "pdf")
    while not stop.wait(PROBE_EVERY):
        with suppress(Lost), closing(Connection(server.recipe.port)) as connection:
            began = now()
            reply = connection.ask(request)
            if reply.status == 429:
                refusals.append((now() - began, "retry-after" in reply.headers))


def measure(server: Server, name: str, seconds: float) -> list[Round]:
    """Offer twice the capacity that was just measured."""
    images, clients, connections = LOADS[name]
    rounds, before = [], server.load(clients, images, seconds / 2)["requests"]
    for _ in range(ROUNDS):
        measured = overload(server, images, connections, TIMES * before, seconds)
        after = server.load(clients, images, seconds / 2)["requests"]
        capacity, before = fmean((before, after)), after
        goodput = measured["served"] / measured["seconds"] / capacity
        rounds.append(measured | {"capacity": capacity, "goodput": goodput})
        print(f"{name}: {rounds[-1]}", flush=True)
    return rounds


def run(options: argparse.Namespace) -> int:
    with running(service(options.bundle)) as server:
        rounds = {name: measure(server, name, options.seconds) for name in LOADS}
    return conclude(options, [result for name in LOADS for result in results_of(name, rounds[name])], rounds)
