"""What a measurement ran on."""

import os
import platform
from importlib import metadata

LIBRARIES = ("bentoml", "keras", "numpy", "openvino", "tensorflow")


def describe() -> str:
    """Name processor, cores, system and libraries in a few lines."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}, {platform.system()}\n{versions}\n"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
