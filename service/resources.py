"""CPUs and memory that this process may use, by Linux control groups (cgroups) where it is in one."""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import sys
import threading
import time
from pathlib import Path

# The memory limit, in version 2 and 1 of cgroups.
CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

RETURN_EVERY = 20.0  # seconds

LOWER_BY = 5  # nice value: such a thread gets a third of the processor time of a normal thread beside it


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
