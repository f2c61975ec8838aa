"""CPUs that this process may use, by Linux control groups (cgroups) where it is in one."""

import contextlib
import math
import os
from pathlib import Path

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
