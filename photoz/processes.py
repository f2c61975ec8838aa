"""Child processes for work that may crash, take too long or use too much memory, run by pebble's process pool."""

import os
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize
from typing import Any

from pebble import ProcessPool
from pebble.pool.process import interpreter_shutdown


def process_pool(
    n_processes: int = 1,
    *,
    max_tasks: int = 0,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> ProcessPool:
    """Return a pool of child processes, which start with the first job.

    A child that dies fails only its own job, with `pebble.ProcessExpired`, and is replaced. A job that is cancelled or
    exceeds its timeout is killed. The children end with this process.

    Parameters
    ----------
    n_processes : int
        Children.
    max_tasks : int
        Jobs after which a child is replaced; 0 for no limit.
    initializer : callable, or None
        Called in each child before its first job, such as to set limits.
    initargs : tuple
        Its arguments.
    """
    # pebble stops its children at the exit of an interpreter, but not at that of a process of multiprocessing.
    Finalize(None, interpreter_shutdown, exitpriority=0)
    # A forked child would inherit the threads of TensorFlow, OpenVINO and the HTTP server without their state.
    return ProcessPool(n_processes, max_tasks, _start, (initializer, initargs), get_context("spawn"))


def _start(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
