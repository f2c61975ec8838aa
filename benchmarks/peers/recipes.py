"""How each peer is started. All get one process with the network, and all cores for TensorFlow.

benchmarks/README.md links the documentation that advises it.
"""

from pathlib import Path

from benchmarks.harness.environment import TENSORFLOW_THREADS
from benchmarks.harness.processes import Recipe, free_port
from benchmarks.peers.install import HERE, python

FASTAPI = "benchmarks.peers.fastapi.app:app"
MODULES = {
    "fastapi": ("uvicorn", FASTAPI, "--port", "{port}", "--no-access-log", "--log-level", "warning"),
    "litserve": ("benchmarks.peers.litserve.app", "{port}"),
    "ray": ("benchmarks.peers.ray.app", "{port}"),
}
# With HAProxy in place of the proxy in Python, single images came four times as fast.
RAY = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def recipe(peer: str, model: Path) -> Recipe:
    """Return the recipe of a peer for a model.keras."""
    port, variables = free_port(), {"MODEL": str(model.resolve()), **TENSORFLOW_THREADS}
    if peer == "mlserver":  # it wants a port for REST, which is not used
        variables |= {"MLSERVER_GRPC_PORT": str(port), "MLSERVER_HTTP_PORT": str(free_port())}
        command = (str(python(peer).with_name("mlserver")), "start", str(HERE / "mlserver"))
        return Recipe(command, port, "photoz", "grpc", variables)
    variables |= RAY if peer == "ray" else {}
    return Recipe((str(python(peer)), "-m", *MODULES[peer]), port, "/predict", "raw", variables)
