"""How each peer is started and asked. All get one process with the network, and all cores for TensorFlow.

What their documentation advises, and where, stands in benchmarks/README.md.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks import threads
from benchmarks.peers.install import HERE, python
from benchmarks.servers import Recipe, free_port


def fastapi(model: Path) -> Recipe:
    """Uvicorn with uvloop and httptools, which its documentation advises."""
    app = "benchmarks.peers.fastapi.app:app"
    command = ("-m", "uvicorn", app, "--port", "{port}", "--no-access-log", "--log-level", "warning")
    return Recipe((str(python("fastapi")), *command), free_port(), "/predict", "raw", _environment(model))


def litserve(model: Path) -> Recipe:
    """See its app.py."""
    command = ("-m", "benchmarks.peers.litserve.app", "{port}")
    return Recipe((str(python("litserve")), *command), free_port(), "/predict", "raw", _environment(model))


def mlserver(model: Path) -> Recipe:
    """See its runtime.py and settings.json; no REST client comes, but MLServer wants a port for it."""
    port = free_port()
    ports = {"MLSERVER_GRPC_PORT": str(port), "MLSERVER_HTTP_PORT": str(free_port())}
    command = (str(python("mlserver").with_name("mlserver")), "start", str(HERE / "mlserver"))
    return Recipe(command, port, "photoz", "grpc", _environment(model) | ports)


def ray(model: Path) -> Recipe:
    """See its app.py; the first two variables are what its documentation advises for throughput.

    With HAProxy instead of the proxy in Python, single images were seen to come four times as fast.
    """
    variables = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = ("-m", "benchmarks.peers.ray.app", "{port}")
    return Recipe((str(python("ray")), *command), free_port(), "/predict", "raw", _environment(model) | variables)


RECIPES: dict[str, Callable[[Path], Recipe]] = {
    "fastapi": fastapi,
    "litserve": litserve,
    "mlserver": mlserver,
    "ray": ray,
}


def _environment(model: Path) -> dict[str, str]:
    return {"MODEL": str(model.resolve()), **threads.TENSORFLOW}
