"""CPUs and memory that this process may use, by Linux control groups (cgroups) where it is in one."""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import math
import os
import sys
import threading
import time
from pathlib import Path

# The memory limit, in version 2 and 1 of cgroups.
CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

RETURN_EVERY = 20.0  # seconds

LOWER_BY = 5  # nice value: such a thread gets a third of the processor time of a normal thread beside it

# The CPU quota and the period that it counts for, in microseconds.
CGROUP_CPU = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)


def available_cpus() -> int:
    """Return the number of CPUs in the affinity mask, or the CPU quota of the cgroup rounded up, if that is less."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return math.ceil(min(cpus, _cpu_quota()))


def _cpu_quota() -> float:
    for paths in CGROUP_CPU:
        with contextlib.suppress(OSError, ValueError):  # the other version of cgroups, or "max"
            quota, period = (int(number) for path in paths for number in path.read_text().split())
            return quota / period if quota > 0 else math.inf
    return math.inf


def keep_returning_memory() -> None:
    """Free objects in reference cycles, again and again, and return what glibc keeps of freed memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)

    def keep_returning() -> None:
        while True:
            time.sleep(RETURN_EVERY)
            if gc.isenabled():  # it is paused while JSON is being decoded
                gc.collect()
            trim(0)

    threading.Thread(target=keep_returning, name="return-memory", daemon=True).start()


def end_if_frozen(loop: asyncio.AbstractEventLoop, seconds: float = 15.0) -> None:
    """End this process if the loop stands still for so long from now on, with the stacks of its threads on stderr.

    We have seen workers hang at shutdown, waiting for ever for the interpreter's lock in the loop and in a thread of
    granian. Then no Python runs any more, but faulthandler's thread needs none.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    loop.call_later(seconds / 15, end_if_frozen, loop, seconds)


def lower_priority() -> None:
    """Let other threads of this process go first, and those that this one starts too; only on Linux.

    The event loop needs little time, but without delay; at equal priority the engine's threads would take all of it.
    """
    if sys.platform == "linux":  # elsewhere it would be that of the process
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + LOWER_BY)


def available_memory() -> int:
    """Return the memory limit of the cgroup in bytes, or the memory of the machine."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in CGROUP_MEMORY:
        with contextlib.suppress(OSError, ValueError):  # the other version of cgroups, or "max"
            return min(int(path.read_text()), machine)
    return machine
