"""Besiege a service: for minutes, with each means that an outsider without a key has, and then with all at once.

Meanwhile another address asks for /livez and sends good requests; the memory of all processes is watched. Then
comes a minute of peace, and in the end SIGTERM while the attack goes on again.
"""

import argparse
import contextlib
import io
import random
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
import psutil

from benchmarks.harness.http_client import now, request, request_head
from benchmarks.harness.processes import MB, Server, running, service
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.harness.threads import background, sampled
from benchmarks.resilience.known_answers import ALIVE, Mix, Reference, npz_of
from benchmarks.resilience.load_clients import Client, RequestLog

MIB = 1024 * 1024
BUDGETS = (128 * MIB, 1024 * MIB)  # PHOTOZ_MAX_MEMORY_BYTES
BASE, FACTOR = 550_000_000, 2  # the documented need: this, and so many times the budget
SEVERAL = 6  # threads of each attack
HOLD = 5.0  # seconds for which an attacker keeps a connection that the service does not end
PROBE_EVERY, GOOD_EVERY, SAMPLE_EVERY = 0.02, 0.25, 0.1  # seconds
TRUCE = 10.0  # seconds after the start of an attack in which good requests may be answered 429
GOOD_ADDRESS = "127.0.0.2"  # of the clients that do not attack
EXIT = 60.0  # seconds that the service may take to end, far below the documented time


class Arsenal:
    """The bytes that are sent."""

    def __init__(self, path: str, budget: int) -> None:
        self.path, self.budget = path, budget
        self.empty_lists = b" " * 64 + b'{"images":[' + b"[]," * min(20 * MIB, budget // 7) + b"[]]}"
        self.half_body = bytes(min(budget // 3, 60 * MIB))

    @cached_property
    def unread(self) -> bytes:
        """Ask for the PDFs of many cutouts as JSON: megabytes of answer."""
        return request("POST", "/predict_file?pdf=true", npz_of(images=np.ones((600, 64, 64, 5), np.float16)))

    @cached_property
    def small_pdfs(self) -> bytes:
        """PDFs of one byte a bin, which deflate a thousandfold."""
        np.savez_compressed(buffer := io.BytesIO(), pdfs=np.ones((102_400, 180), np.int8), z_spec=np.full(102_400, 0.1))
        return request("POST", "/evaluate", buffer.getvalue())

    @cached_property
    def small_tensor(self) -> bytes:
        """Cutouts of one byte a pixel, which deflate a thousandfold."""
        n = min(4096, self.budget // 2 // 20_480)
        shape = f'"shape":[{n},64,64,5],"parameters":{{"binary_data_size":{n * 20_480}}}'
        message = f'{{"inputs":[{{"name":"images","datatype":"INT8",{shape}}}]}}'.encode()
        length = f"Inference-Header-Content-Length: {len(message)}"
        packed = zlib.compress(message + bytes(n * 20_480), 9)
        return request("POST", self.path, packed, length, "Content-Encoding: deflate")

    @cached_property
    def small_archive(self) -> bytes:
        """Write a .npz file below 256 KiB that unpacks into 60 MB."""
        np.savez_compressed(buffer := io.BytesIO(), images=np.zeros((740, 64, 64, 5), np.float32))
        return request("POST", "/predict_file", buffer.getvalue())


def _rest(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


# What is sent on one connection, piece after piece, and whether what comes back is read.
Attack = tuple[Callable[[Arsenal], Iterator[bytes]], bool]


def json_bomb(arsenal: Arsenal) -> Iterator[bytes]:
    line = random.choice(("X-A: b", "Inference-Header-Content-Length: 0"))
    yield request("POST", random.choice(("/predict", "/evaluate")), arsenal.empty_lists, line)


def trailers(arsenal: Arsenal) -> Iterator[bytes]:
    yield request_head("POST /predict_file", "Transfer-Encoding: chunked") + b"0\r\n"
    yield from _rest((b"X-Trailer: " + b"a" * 4000 + b"\r\n") * 16)


def pipelined(arsenal: Arsenal) -> Iterator[bytes]:
    yield from _rest(request_head("GET /") * 1000)


def unread(arsenal: Arsenal) -> Iterator[bytes]:
    yield random.choice((arsenal.unread, request_head("GET /model") * 420))


def upgrade(arsenal: Arsenal) -> Iterator[bytes]:
    inner = request_head("GET /model")
    yield (
        request_head("POST /predict_file", "Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(inner)}")
        + inner
    )


def stopped_upload(arsenal: Arsenal) -> Iterator[bytes]:
    yield request_head("POST /predict_file", f"Content-Length: {len(arsenal.half_body) + MIB}") + arsenal.half_body


def small_types(arsenal: Arsenal) -> Iterator[bytes]:
    yield random.choice((arsenal.small_pdfs, arsenal.small_tensor))


def small_archive(arsenal: Arsenal) -> Iterator[bytes]:
    yield arsenal.small_archive


def trailing_key(arsenal: Arsenal) -> Iterator[bytes]:
    yield (
        request_head("POST /predict_file", "Transfer-Encoding: chunked")
        + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    )


def half_head(arsenal: Arsenal) -> Iterator[bytes]:
    yield request_head("GET /model", "X-Junk: " + "a" * 32_000)[:-4]


ATTACKS: dict[str, Attack] = {
    "json": (json_bomb, True),
    "trailers": (trailers, False),
    "pipelined": (pipelined, False),
    "unread": (unread, False),
    "upgrade": (upgrade, True),
    "stopped": (stopped_upload, False),
    "small-types": (small_types, True),
    "small-archive": (small_archive, True),
    "trailing-key": (trailing_key, True),
    "half-heads": (half_head, False),
}
CONNECTIONS = {"half-heads": 2500, "unread": 170, "stopped": 12}  # at once; otherwise one for each thread


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="*", choices=[*ATTACKS, "all"], default=[*ATTACKS, "all"])
    parser.add_argument("--budgets", type=int, nargs="*", default=BUDGETS, help="PHOTOZ_MAX_MEMORY_BYTES")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each attack")
    parser.add_argument("--seconds-of-all", type=float, default=300.0, help="of all at once")
    parser.add_argument(
        "--peace", type=float, default=60.0, help="seconds after it, until the memory is measured again"
    )


def attack_once(port: int, attack: Attack, arsenal: Arsenal, n: int, stop: threading.Event) -> None:
    """Open n connections, send on each until the service takes no more, and hold them for a while."""
    make, reads = attack
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5.0))
                connection.settimeout(1.0)
                for piece in make(arsenal):
                    connection.sendall(piece)
                    if stop.is_set():
                        return
                if reads:
                    connection.settimeout(20.0)
                    connection.recv(65_536)
            if stop.is_set():
                return
        if not reads:
            stop.wait(HOLD)


@contextlib.contextmanager
def attackers(port: int, names: list[str], arsenal: Arsenal) -> Iterator[None]:
    """Attack as long as the context lasts."""
    stop = threading.Event()

    def keep_attacking(name: str, threads: int) -> None:
        while not stop.is_set():
            attack_once(port, ATTACKS[name], arsenal, max(1, CONNECTIONS.get(name, 1) // threads), stop)

    threads = SEVERAL if len(names) == 1 else 2
    calls = [partial(keep_attacking, name, threads) for name in names for _ in range(threads)]
    with background(calls, stop):
        yield


def probe(port: int, log: RequestLog, stop: threading.Event) -> None:
    client = Client(port, log, address=GOOD_ADDRESS)
    while not stop.wait(PROBE_EVERY):
        client.ask(ALIVE)
    client.close()


def keep_asking(port: int, mix: Mix, log: RequestLog, stop: threading.Event) -> None:
    client = Client(port, log, address=GOOD_ADDRESS)
    while not stop.wait(GOOD_EVERY):
        client.ask(mix.choose())
    client.close()


def all_memory(server: Server) -> float:
    """Return the memory of all processes, MB; pages that they share count once."""
    total = 0.0
    for process in server.processes():
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_full_info().pss / MB
    return total


def besiege(server: Server, names: list[str], budget: int, seconds: float, peace: float) -> dict[str, Any]:
    """Attack, wait, and end the service under attack; return what was found."""
    port = server.recipe.port
    arsenal, mix = Arsenal(server.recipe.path, budget), Mix(Reference.ask(port, server.recipe.path), 0)
    for _ in range(2):  # warm up
        server.load(4, 64, 1.0)
    time.sleep(2.0)
    idle, probes, good, stop = all_memory(server), RequestLog(), RequestLog(), threading.Event()
    with sampled(lambda: all_memory(server), SAMPLE_EVERY) as memory:
        calls = [partial(probe, port, probes, stop), partial(keep_asking, port, mix, good, stop)]
        began = now()
        with background(calls, stop), attackers(port, names, arsenal):
            time.sleep(seconds)
    time.sleep(peace)
    after = all_memory(server)
    with attackers(port, names, arsenal):
        time.sleep(3.0)
        server.process.send_signal(signal.SIGTERM)
        exit_s, code = server.wait_for_exit(400.0)
    took = [answer.took_s for answer in probes.answers]
    failures = [one for one in good.failures if one.outcome != "busy"]
    busy = [one for one in good.failures if one.outcome == "busy"]
    return {
        "need_mb": (BASE + FACTOR * budget) / MB,
        "idle_mb": idle,
        "peak_mb": max(value for _, value in memory),
        "after_mb": after,
        "livez_p99_ms": 1e3 * float(np.quantile(took, 0.99)) if took else None,
        "livez_failed": len(probes.failures),
        "good": len(good.answers),
        "good_failed": len(failures),
        "busy": len(busy),
        "last_busy_s": max((one.asked_at - began for one in busy), default=0.0),
        "exit_s": exit_s,
        "exit_code": code,
        "examples": [
            f"{one.asked_at - began:+.3f} s: {one.outcome}: {one.text}" for one in (failures + busy[-5:])[:10]
        ],
        "log_errors": server.errors()[:5],
    }


def results_of(name: str, found: dict[str, Any]) -> list[Result]:
    """Judge what was found for one attack."""
    return [
        at_most(f"{name}: peak of all processes, of the documented need", found["peak_mb"] / found["need_mb"], 1.2),
        at_most(f"{name}: memory after it, of that when idle", found["after_mb"] / found["idle_mb"], 1.1),
        at_most(f"{name}: p99 of /livez, ms", found["livez_p99_ms"], 250),
        at_most(f"{name}: probes without an answer", found["livez_failed"], 0),
        at_least(f"{name}: good requests answered rightly", found["good"], 1),
        at_most(f"{name}: good requests lost or answered wrongly", found["good_failed"], 0),
        at_most(f"{name}: errors in the log", len(found["log_errors"]), 0),
        at_most(f"{name}: last 429 of a good request, s after the start", found["last_busy_s"], TRUCE),
        at_most(f"{name}: end after SIGTERM, s", found["exit_s"], EXIT),
        reported(f"{name}: good requests answered 429", found["busy"]),
        reported(f"{name}: peak, MB", found["peak_mb"]),
    ]


def run(options: argparse.Namespace) -> int:
    results, details = list[Result](), {}
    for budget in options.budgets:
        for name in options.only:
            names, seconds = ([*ATTACKS], options.seconds_of_all) if name == "all" else ([name], options.seconds)
            with running(service(options.bundle, PHOTOZ_MAX_MEMORY_BYTES=str(budget))) as server:
                found = besiege(server, names, budget, seconds, options.peace)
            full = f"{name} at {budget // MIB} MiB"
            print(full, found, flush=True)
            results += results_of(full, found)
            details[full] = found
    return conclude(options, results, {"attacks": details})
