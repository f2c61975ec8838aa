"""Read the metrics of a running service."""

from collections.abc import Mapping

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


def families(url: str) -> Mapping[str, Metric]:
    response = httpx.get(f"{url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def metric(url: str, name: str, **labels: str) -> float:
    """Return a sample, or the sum of those with these labels."""
    samples = [sample for family in families(url).values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
