"""Peak memory of all processes of a server, from its start until it has answered both kinds of load."""

import os
import threading
import time

import psutil

from benchmarks.harness.processes import MB, Recipe, running

STEP = 0.02  # seconds between samples


def peak(recipe: Recipe, seconds: float) -> dict[str, float]:
    """Start a server, put load on it, and sample the sums over its processes, in MB of 10^6 bytes.

    The RSS counts pages that processes share once for each of them; the PSS (Linux only) counts them once.
    """
    sums: list[tuple[int, int]] = []
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(sums, done))
    sampler.start()
    try:
        with running(recipe) as server:
            server.load(clients=1, images=64, seconds=seconds)
            server.load(clients=32, images=1, seconds=seconds)
    finally:
        done.set()
        sampler.join()
    rss, pss = (max(column) / MB for column in zip(*sums, strict=True))
    return {"rss_mb": rss, "pss_mb": pss} if pss else {"rss_mb": rss}


def _sample(sums: list[tuple[int, int]], done: threading.Event) -> None:
    while not done.is_set():
        sums.append(_sum())
        time.sleep(STEP)


def _sum() -> tuple[int, int]:
    """Sum over the children in other sessions: the servers, not the load generator."""
    rss = pss = 0
    for child in psutil.Process().children(recursive=True):
        try:
            if os.getsid(child.pid) != os.getsid(0):
                used = child.memory_full_info()
                rss, pss = rss + used.rss, pss + getattr(used, "pss", 0)
        except (psutil.Error, ProcessLookupError):
            continue  # it has ended
    return rss, pss
