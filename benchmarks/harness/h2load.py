"""Load by h2load (Debian's nghttp2-client): one request, sent again and again by several clients."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness.messages import Body

WARM_UP = 1.0  # seconds


class BadLoad(Exception):
    """h2load failed, or a server answered otherwise than it should."""


def run_h2load(url: str, body: Body, clients: int, seconds: float) -> dict[str, float]:
    """Send a body for some seconds after the warm-up, each client again when it has its answer.

    Returns `requests` per second, and percentiles of their times, `p50_ms` and `p99_ms`. Raises `BadLoad` if a
    connection was lost, or for any status but 200.
    """
    with tempfile.TemporaryDirectory() as folder:
        content, log = Path(folder) / "content", Path(folder) / "log"
        content.write_bytes(body.content)
        times = [f"--duration={1000 * seconds:.0f}ms", f"--warm-up-time={1000 * WARM_UP:.0f}ms"]
        options = ["--h1", f"--clients={clients}", *times, *(f"--header={line}" for line in body.headers)]
        command = ["h2load", *options, f"--data={content}", f"--log-file={log}", url]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or " 0 errored, 0 timeout" not in done.stdout or not log.stat().st_size:
            raise BadLoad(f"{done.stdout[-1000:]}{done.stderr}")
        status, microseconds = np.loadtxt(log, np.int64, ndmin=2)[:, 1:].T
    if unexpected := set(status.tolist()) - {200, 0}:  # 0: under way at the end
        raise BadLoad(f"{url} answered {unexpected}")
    n, (p50, p99) = (status == 200).sum(), np.percentile(microseconds[status == 200], (50, 99))
    return {"requests": float(n / seconds), "p50_ms": float(p50 / 1e3), "p99_ms": float(p99 / 1e3)}
