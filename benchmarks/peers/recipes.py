"""How each peer is started. All get one process with the network, and all cores for TensorFlow.

benchmarks/README.md links the documentation that advises it.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.environment import TENSORFLOW_THREADS
from benchmarks.harness.processes import Recipe, free_port
from benchmarks.peers.install import HERE, python


def fastapi(model: Path) -> Recipe:
    """Uvicorn with uvloop and httptools."""
    app = "benchmarks.peers.fastapi.app:app"
    return _module("fastapi", model, "uvicorn", app, "--port", "{port}", "--no-access-log", "--log-level", "warning")


def litserve(model: Path) -> Recipe:
    """See its app.py."""
    return _module("litserve", model, "benchmarks.peers.litserve.app", "{port}")


def mlserver(model: Path) -> Recipe:
    """See its runtime.py and settings.json; it wants a port for REST, which is not used."""
    port = free_port()
    ports = {"MLSERVER_GRPC_PORT": str(port), "MLSERVER_HTTP_PORT": str(free_port())}
    command = (str(python("mlserver").with_name("mlserver")), "start", str(HERE / "mlserver"))
    return Recipe(command, port, "photoz", "grpc", _environment(model) | ports)


def ray(model: Path) -> Recipe:
    """See its app.py; the first two variables are what its documentation advises for throughput.

    With HAProxy in place of the proxy in Python, single images came four times as fast.
    """
    variables = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return _module("ray", model, "benchmarks.peers.ray.app", "{port}", **variables)


RECIPES: dict[str, Callable[[Path], Recipe]] = {
    "fastapi": fastapi,
    "litserve": litserve,
    "mlserver": mlserver,
    "ray": ray,
}


def _module(peer: str, model: Path, *arguments: str, **variables: str) -> Recipe:
    command = (str(python(peer)), "-m", *arguments)
    return Recipe(command, free_port(), "/predict", "raw", _environment(model) | variables)


def _environment(model: Path) -> dict[str, str]:
    return {"MODEL": str(model.resolve()), **TENSORFLOW_THREADS}
