"""Load by h2load (Debian's nghttp2-client): one request, sent again and again by several clients."""

import resource
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness.messages import Body

WARM_UP = 1.0  # seconds


class BadLoad(Exception):
    """h2load failed, or a server answered otherwise than it should."""


def run_h2load(
    url: str, body: Body, clients: int, seconds: float, *, rate: float = 0.0, statuses: Sequence[int] = (200,)
) -> dict[str, float]:
    """Send a body for some seconds after the warm-up, each client when it has its answer, or `rate` times a second.

    Returns `requests` and `refused` (429) per second; of those with status 200 percentiles of their times, `p50_ms` and
    `p99_ms`, and of the refused ones `refused_p99_ms`; h2load's processor time a request, `generator_ms`. Raises
    `BadLoad` if a connection was lost, or for a status that is not among `statuses`.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        content, log = Path(folder) / "content", Path(folder) / "log"
        content.write_bytes(body.content)
        options = ["--h1", *(f"--header={line}" for line in body.headers)]
        options += [f"--rps={rate / clients}"] if rate else []
        times = [f"--duration={1000 * seconds:.0f}ms", f"--warm-up-time={1000 * WARM_UP:.0f}ms"]
        command = ["h2load", f"--clients={clients}", *times, f"--data={content}", f"--log-file={log}", *options, url]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or " 0 errored, 0 timeout" not in done.stdout or not log.stat().st_size:
            raise BadLoad(f"{done.stdout[-1000:]}{done.stderr}")
        table = np.loadtxt(log, np.int64, ndmin=2)
    table = table[table[:, 1] != 0]  # those that were under way at the end
    status, milliseconds = table[:, 1], table[:, 2] / 1e3
    if unexpected := set(status.tolist()) - set(statuses):
        raise BadLoad(f"{url} answered {unexpected}: {Counter(status.tolist())}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"requests": (status == 200).sum() / seconds, "refused": (status == 429).sum() / seconds}
    for name, value, quantile in (("p50_ms", 200, 50), ("p99_ms", 200, 99), ("refused_p99_ms", 429, 99)):
        if (status == value).any():
            figures[name] = np.percentile(milliseconds[status == value], quantile)
    figures["generator_ms"] = 1e3 * processor_s / len(status)
    return {name: float(value) for name, value in figures.items()}
