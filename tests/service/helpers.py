"""Helpers of the service's tests: requests, errors, metrics, waiting, and evaluations that last."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx
import numpy as np
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from photoz.io.npz import npz_bytes
from tests.running import RunningService

PATIENCE = 120.0  # seconds; a busy machine may stop any process for several of them

EVALUATION = npz_bytes({"pdfs": np.ones((9, 90)), "z_spec": np.linspace(0.01, 0.5, 9)})


def get(url: str, path: str, **headers: str) -> httpx.Response:
    """Send a request on a connection of its own."""
    return httpx.get(f"{url}{path}", headers=headers, timeout=PATIENCE)


def post(url: str, path: str, content: object, **headers: str) -> httpx.Response:
    """Send a body likewise; `_` stands for the hyphens in the names of headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}{path}", content=content, headers=named, timeout=PATIENCE)


def check_error(response: httpx.Response, status: int, *words: str) -> None:
    """Check that a response is an error in the one shape, with these words in it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    for word in words:
        assert word in response.json()["error"]


def families(url: str) -> Mapping[str, Metric]:
    """Read the metrics of a service, by name."""
    response = get(url, "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def metric(url: str, name: str, **labels: str) -> float:
    """Read a sample, or the sum of those with these labels."""
    samples = [sample for family in families(url).values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.02)


@contextmanager
def suspended_evaluations(service: RunningService, content: bytes = EVALUATION) -> Iterator[None]:
    """Suspend the child that evaluates, so that evaluations last until the context is left."""
    assert post(service.url, "/evaluate", content).status_code == 200  # starts it
    (worker,) = service.workers
    wait_for(lambda: len(worker.children()) == 1)  # that of a cancelled evaluation may be ending
    (child,) = worker.children()
    child.suspend()
    try:
        yield
    finally:
        child.resume()
