"""Attack a service without a key for minutes, in each known way and then in all ways at once.

Meanwhile another address asks for /livez and sends good requests, and the memory of all processes is sampled. After a
minute without attacks the service gets SIGTERM while it is attacked again. With `--proxy nginx` all requests go through
nginx (deploy/nginx/photoz.conf), and the attacks that hold connections are added, which the service leaves to a proxy.
"""

import argparse
import contextlib
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.http_client import now
from benchmarks.harness.processes import MB, Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import background, sampled
from benchmarks.resilience.clients import Client, RequestLog, keep_asking
from benchmarks.resilience.known_answers import ALIVE, Mix, Reference
from tests.attack.sieges import HOLDING, MIB, WHOLE, Siege
from tests.deploy.nginx import running_nginx

BUDGETS = (128 * MIB, 1024 * MIB)  # PHOTOZ_MAX_MEMORY_BYTES
BASE, FACTOR = 550_000_000, 2  # the documented need: this, and twice the budget
SEVERAL = 6  # threads of each attack
HOLD = 5.0  # seconds for which an attacker keeps a connection that the service does not end
PROBE_EVERY, GOOD_EVERY, SAMPLE_EVERY = 0.02, 0.25, 0.1  # seconds
TRUCE = 10.0  # seconds after the start of an attack in which good requests may be answered 429
GOOD_ADDRESS = "127.0.0.2"  # of the clients that do not attack
EXIT = 60.0  # seconds that the service may take to end, far below the documented time


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="*", choices=[*WHOLE, *HOLDING, "all"])
    parser.add_argument("--proxy", choices=["nginx"], help="attack the service through this proxy")
    parser.add_argument("--budgets", type=int, nargs="*", default=BUDGETS, help="PHOTOZ_MAX_MEMORY_BYTES")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each attack")
    parser.add_argument("--seconds-of-all", type=float, default=300.0, help="of all at once")
    parser.add_argument("--peace", type=float, default=60.0, help="seconds from an attack until the memory is measured")


def keep_attacking(port: int, siege: Siege, budget: int, n: int) -> None:
    """Open n connections, send on each until the server takes no more, hold them for a while, and start again."""
    while True:
        with contextlib.ExitStack() as stack:
            for _ in range(n):
                with contextlib.suppress(OSError):
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5.0))
                    connection.settimeout(1.0)
                    for piece in siege.pieces(budget):
                        connection.sendall(piece)
                    if siege.reads:
                        connection.settimeout(20.0)
                        connection.recv(65_536)
            if not siege.reads:
                time.sleep(HOLD)


def attack_until_killed(port: int, sieges: list[Siege], budget: int) -> None:
    n_threads = SEVERAL if len(sieges) == 1 else 2
    for siege in sieges * n_threads:
        n = max(1, siege.connections // n_threads)
        threading.Thread(target=keep_attacking, args=(port, siege, budget, n)).start()


@contextlib.contextmanager
def attackers(port: int, sieges: list[Siege], budget: int) -> Iterator[None]:
    """Attack as long as the context lasts, from a process of its own, whose threads do not delay those that measure."""
    process = get_context("spawn").Process(target=attack_until_killed, args=(port, sieges, budget))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def besiege(server: Server, port: int, sieges: list[Siege], budget: int, options: argparse.Namespace) -> dict[str, Any]:
    """Attack a port (of the service or its proxy), wait, and stop the service under attack; return the figures."""
    seconds = options.seconds if len(sieges) == 1 else options.seconds_of_all
    mix = Mix(Reference.ask(server.recipe.port, server.recipe.path), 0)
    server.load(4, 64, 2.0)  # warm up
    time.sleep(2.0)
    idle, probes, good, stop = server.memory_mb(), RequestLog(), RequestLog(), threading.Event()
    with sampled(server.memory_mb, SAMPLE_EVERY) as memory:
        prober, client = (Client(port, log, address=GOOD_ADDRESS) for log in (probes, good))
        calls = [partial(keep_asking, prober, lambda: ALIVE, stop, lambda: PROBE_EVERY)]
        calls += [partial(keep_asking, client, mix.choose, stop, lambda: GOOD_EVERY)]
        began = now()
        with background(calls, stop), attackers(port, sieges, budget):
            time.sleep(seconds)
    time.sleep(options.peace)
    after = server.memory_mb()
    with attackers(port, sieges, budget):
        time.sleep(8.0)  # it takes seconds until they begin
        server.process.send_signal(signal.SIGTERM)
        exit_s, code = server.wait_for_exit(400.0)
    times = [answer.took_s for answer in probes.answers]
    busy = [failure for failure in good.failures if failure.outcome == "busy"]
    failures = [failure for failure in good.failures if failure.outcome != "busy"]
    return {
        "need_mb": (BASE + FACTOR * budget) / MB,
        "idle_mb": idle,
        "peak_mb": max(mb for _, mb in memory),
        "after_mb": after,
        "livez_p99_ms": 1e3 * float(np.quantile(times, 0.99)) if times else None,
        "livez_failed": len(probes.failures),
        "good": len(good.answers),
        "good_failed": len(failures),
        "busy": len(busy),
        "last_busy_s": max((failure.asked_at - began for failure in busy), default=0.0),
        "exit_s": exit_s,
        "exit_code": code,
        "examples": RequestLog(failures=failures + busy[-5:]).examples(10, began),
        "log_errors": server.errors()[:5],
    }


def results_of(name: str, seen: dict[str, Any]) -> list[Result]:
    """Judge one attack."""
    return [
        at_most(f"{name}: peak of all processes, of the documented need", seen["peak_mb"] / seen["need_mb"], 1.2),
        at_most(f"{name}: memory after it, of that when idle", seen["after_mb"] / seen["idle_mb"], 1.1),
        at_most(f"{name}: p99 of /livez, ms", seen["livez_p99_ms"], 250),
        at_most(f"{name}: probes without an answer", seen["livez_failed"], 0),
        at_least(f"{name}: good requests answered rightly", seen["good"], 1),
        at_most(f"{name}: good requests lost or answered wrongly", seen["good_failed"], 0),
        at_most(f"{name}: errors in the log", len(seen["log_errors"]), 0),
        at_most(f"{name}: last 429 of a good request, s after the start", seen["last_busy_s"], TRUCE),
        at_most(f"{name}: end after SIGTERM, s", seen["exit_s"], EXIT),
        reported(f"{name}: good requests answered 429", seen["busy"]),
        reported(f"{name}: peak, MB", seen["peak_mb"]),
    ]


def run(options: argparse.Namespace) -> int:
    known = WHOLE | HOLDING if options.proxy else WHOLE
    results, details = list[Result](), {}
    for budget in options.budgets:
        for name in options.only or [*known, "all"]:
            sieges = [*known.values()] if name == "all" else [(WHOLE | HOLDING)[name]]
            settings = {"PHOTOZ_MAX_MEMORY_BYTES": str(budget)}
            if options.proxy:
                settings["PHOTOZ_TRUSTED_PROXIES"] = "127.0.0.1"
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(running(service(options.bundle, **settings)))
                port = server.recipe.port
                if options.proxy:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    nginx = stack.enter_context(running_nginx(folder, port, PHOTOZ_MAX_BODY_BYTES=budget // 2))
                    port = int(nginx.url.rpartition(":")[2])
                seen = besiege(server, port, sieges, budget, options)
            full = f"{name} at {budget // MIB} MiB"
            print(full, seen, flush=True)
            results += results_of(full, seen)
            details[full] = seen
    return conclude(options, results, {"attacks": details})
