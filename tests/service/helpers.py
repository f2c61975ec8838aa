"""Helpers of the service's tests: errors, metrics and waiting."""

import time
from collections.abc import Callable, Mapping

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


def check_error(response: httpx.Response, status: int, *words: str) -> None:
    """Check that a response is an error in the one shape, with these words in it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    for word in words:
        assert word in response.json()["error"]


def families(url: str) -> Mapping[str, Metric]:
    """Read the metrics of a service, by name."""
    response = httpx.get(f"{url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def metric(url: str, name: str, **labels: str) -> float:
    """Read a sample, or the sum of those with these labels."""
    samples = [sample for family in families(url).values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.02)
