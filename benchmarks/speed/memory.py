"""Peak memory of all processes of a server, from its start until it has answered both kinds of load."""

import os

import psutil

from benchmarks.harness.processes import MB, Recipe, running
from benchmarks.harness.threads import sampled

EVERY = 0.02  # seconds


def peak(recipe: Recipe, seconds: float) -> dict[str, float]:
    """Start a server, put load on it, and sample the sums over its processes, in MB of 10^6 bytes.

    The RSS counts pages that processes share once for each of them; the PSS (Linux only) counts them once.
    """
    with sampled(_sums, EVERY) as samples, running(recipe) as server:
        server.load(clients=1, images=64, seconds=seconds)
        server.load(clients=32, images=1, seconds=seconds)
    rss, pss = (max(sums[column] for _, sums in samples) / MB for column in (0, 1))
    return {"rss_mb": rss, "pss_mb": pss} if pss else {"rss_mb": rss}


def _sums() -> tuple[int, int]:
    """Sum RSS and PSS over the children in other sessions: the servers, not the load generator."""
    rss = pss = 0
    for child in psutil.Process().children(recursive=True):
        try:
            if os.getsid(child.pid) != os.getsid(0):
                used = child.memory_full_info()
                rss, pss = rss + used.rss, pss + getattr(used, "pss", 0)
        except (psutil.Error, ProcessLookupError):
            continue  # it has ended
    return rss, pss
