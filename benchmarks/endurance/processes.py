"""The processes of a running service: which one predicts, what memory they take, what their log says."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from benchmarks.endurance.checks import ready
from benchmarks.endurance.client import Connection
from benchmarks.servers import Server

MB = 1e6

# Of a log as text, and of one as JSON, in which a traceback is part of the line.
_ERROR = re.compile(
    r'\[(?:ERROR|CRITICAL)\].*(?:\nTraceback.*)?|"level": ?"(?:error|critical)".*|^Traceback .*', re.MULTILINE
)
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception|Disconnect|Exit)\b.{0,80}", re.MULTILINE)


def family(server: Server) -> list[psutil.Process]:
    """Give all processes of the service, the arbiter first."""
    first = psutil.Process(server.process.pid)
    return [first, *first.children(recursive=True)]


async def worker(server: Server) -> psutil.Process:
    """Find the process that answers: the one that holds the other end of a connection.

    Raises
    ------
    LookupError
        If none of the service's processes does.
    """
    connection = await Connection.open(server.recipe.port)
    try:
        await connection.ask(ready())
        for process in family(server):
            if any(end.raddr and end.raddr.port == connection.local_port for end in process.net_connections("tcp")):
                return process
    finally:
        connection.close()
    raise LookupError("no process of the service holds the connection that was answered")


def rss_mb(processes: Sequence[psutil.Process]) -> float:
    """Sum the resident memory of those that still run, in MB of 10^6 bytes."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss / MB
    return total


def processor_s(processes: Sequence[psutil.Process]) -> float:
    """Sum the processor time that they have used, in seconds."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def log_of(server: Server) -> Callable[[], str]:
    """Give a function that reads what the service has logged so far, as long as it runs under `running` (Linux)."""
    path = Path(os.readlink(f"/proc/{server.process.pid}/fd/1"))
    return lambda: path.read_text(errors="replace")


def errors_in(log: str) -> int:
    """Count errors, and tracebacks that stand alone."""
    return len(_ERROR.findall(log))


def raised_in(log: str) -> dict[str, int]:
    """Count the last lines of tracebacks, the commonest first."""
    return dict(Counter(_RAISED.findall(log.replace("\\n", "\n"))).most_common(30))


def wait_for_exit(server: Server, timeout: float) -> tuple[float, int] | None:
    """Wait until the first process has ended, without reaping it: that is left to `running` (Linux).

    Returns
    -------
    (float, int) or None
        Seconds that it took, and the exit code, negative for a signal; None if it still runs.
    """
    began = time.perf_counter()
    while time.perf_counter() < began + timeout:
        ended = os.waitid(os.P_PID, server.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is not None:
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            return time.perf_counter() - began, code
        time.sleep(0.005)
    return None


def slope(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Fit a line by least squares.

    Parameters
    ----------
    hours, values : sequence of float
        At least three points.

    Returns
    -------
    slope, error : float
        Per hour, and its standard error for scatter that is independent from point to point.
    """
    x, y = np.asarray(hours) - np.mean(hours), np.asarray(values) - np.mean(values)
    found = float(x @ y / (x @ x))
    scatter = y - found * x
    return found, float(np.sqrt(scatter @ scatter / (len(x) - 2) / (x @ x)))
