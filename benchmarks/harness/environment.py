"""The project's folders, the machine that a measurement runs on, and the threads of each side."""

import os
import platform
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SHIPPED = ROOT / "models" / "photoz"

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# All cores for the network, whatever runs it: the engine of a bundle in the service, in the prototype or alone ...
ENGINE_THREADS = {"PHOTOZ_THREADS": str(CPUS), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# ... and TensorFlow, alone or in a peer.
TENSORFLOW_THREADS = {
    "TF_NUM_INTRAOP_THREADS": str(CPUS),
    "OMP_NUM_THREADS": str(CPUS),  # Ray sets it to its own count otherwise
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}


def describe() -> str:
    """Name processor, cores, system and libraries in a few lines."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("bentoml", "keras", "numpy", "openvino", "tensorflow")
    )
    return f"{_processor()}, {CPUS} cores, Python {platform.python_version()}, {platform.system()}\n{versions}\n"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
