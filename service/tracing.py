"""Traces, where the operator says where they go: by OpenTelemetry's own environment variables."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from service.edge.visit import CURRENT

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROBES = "livez,healthz,readyz,v2/health,metrics"


def is_on(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether traces are wanted."""
    return any(environment.get(name) for name in ENDPOINTS)


def tracing_options(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Tell BentoML whether to trace, and how much.

    Parameters
    ----------
    environment : mapping of str to str
        With OTEL_EXPORTER_OTLP_ENDPOINT where traces are wanted, and OTEL_TRACES_SAMPLER_ARG for the part of them.

    Returns
    -------
    dict
        Its option `tracing`. Without an endpoint no request is even looked at, since that alone took a quarter of a
        millisecond.
    """
    if not is_on(environment):
        return {"excluded_urls": "."}
    sampled = float(environment.get("OTEL_TRACES_SAMPLER_ARG") or 1.0)
    # The exporter reads where from the environment itself; `otlp` has to say something, or BentoML makes no exporter.
    return {"exporter_type": "otlp", "sample_rate": sampled, "otlp": {"protocol": "http"}, "excluded_urls": PROBES}


def span(name: str) -> AbstractContextManager[Any]:
    """Time a part of the work on a request, where traces are wanted."""
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    visit = CURRENT.get()
    attributes = {"request_id": visit.id, "rows": visit.rows} if visit else {}
    made: AbstractContextManager[Any] = tracer.start_as_current_span(name, attributes=attributes)
    return made


@cache
def _tracer() -> Any:
    if not is_on():
        return None
    from bentoml._internal.configuration.containers import BentoMLContainer

    return BentoMLContainer.tracer_provider.get().get_tracer("photoz")
