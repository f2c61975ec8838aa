"""Child processes for work that may crash, take too long or use too much memory, run by pebble's process pool."""

import fcntl
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool
from pebble.common.types import Result, ResultStatus
from pebble.pool.process import PoolManager, dictionary_values, interpreter_shutdown


def process_pool(
    n_processes: int = 1,
    *,
    max_tasks: int = 0,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> ProcessPool:
    """Return a pool of child processes, which start with the first job.

    A child that dies fails only its own job, with `pebble.ProcessExpired`, and is replaced; but a child that dies while
    no job runs breaks the pool: its property `active` is false then, and waiting jobs raise `BrokenProcessPool`. A
    child is also replaced after `max_tasks` jobs, if that is not 0. A job that is cancelled or exceeds its timeout is
    killed. `initializer` is called in each child before its first job, such as to set limits. The children end with
    this process.
    """
    # pebble stops its children at the exit of an interpreter, but not at that of a process of multiprocessing.
    Finalize(None, interpreter_shutdown, exitpriority=0)
    # A forked child would inherit the threads of TensorFlow, OpenVINO and the HTTP server without their state.
    context = get_context("spawn")
    pool = ProcessPool(n_processes, max_tasks, _start, (initializer, initargs), context)
    pool._pool_manager = _PoolManager(pool._context, context)
    return pool


class _PoolManager(PoolManager):
    """Fails a job whose child dies just after taking it: pebble 5.2 may look for the job too early, and then never."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._exit_codes: dict[int, int] = {}  # of dead children, by process id

    def handle_worker_expiration(self, expiration: tuple[int, int]) -> None:
        super().handle_worker_expiration(expiration)
        self._exit_codes |= [expiration]

    def update_workers(self) -> None:
        super().update_workers()  # type: ignore[no-untyped-call]
        for pid in self.worker_manager.workers:
            self._exit_codes.pop(pid, None)  # a process id may be used again
        for task in dictionary_values(self.task_manager.tasks):
            if (code := self._exit_codes.get(task.worker_id)) is not None:
                error = ProcessExpired("Abnormal termination", code=code, pid=task.worker_id)
                self.task_manager.task_done(task.id, Result(ResultStatus.ERROR, error))


def _start(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    _end_with_parent()
    if initializer is not None:
        initializer(*initargs)


def limit_process(n_bytes: int, seconds: float) -> None:
    """Allow this process `n_bytes` more memory, on Linux, and some seconds more of processor time."""
    for line in Path("/proc/self/status").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("VmData:"):
            resource.setrlimit(resource.RLIMIT_DATA, (limit := 1024 * int(line.split()[1]) + n_bytes, limit))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends it; RLIMIT_CPU has whole seconds, from the start


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent ends, by SIGIO: a thread would wait for a job in C."""
    parent = parent_process()
    assert parent is not None
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, os.O_ASYNC)
    if not parent.is_alive():  # it ended before
        os._exit(1)
