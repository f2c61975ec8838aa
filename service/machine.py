"""What this process may have of the machine, by Linux's control groups where it is in one."""

import contextlib
import math
import os
from pathlib import Path

# Where the limit of this process's memory stands, by version 2 and 1 of Linux's control groups.
CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# And where that of its processor time stands: so many microseconds, of so many.
CGROUP_CPU = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)


def available_cpus() -> int:
    """Return the number of CPUs that this process may run on, or that its control group has the time of, rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return math.ceil(min(cpus, _cpu_quota()))


def _cpu_quota() -> float:
    for paths in CGROUP_CPU:
        with contextlib.suppress(OSError, ValueError):  # another version of control groups, or "max"
            quota, period = (int(number) for path in paths for number in path.read_text().split())
            return quota / period if quota > 0 else math.inf
    return math.inf


def available_memory() -> int:
    """Return the bytes of memory that this process may have: its control group's, or the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in CGROUP_MEMORY:
        with contextlib.suppress(OSError, ValueError):  # another version of control groups, or "max"
            return min(int(path.read_text()), machine)
    return machine
