"""Traces by OpenTelemetry, where its environment variables name a collector."""

import os
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from photoz.errors import InvalidInput

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROBES = "livez,healthz,readyz,v2/health,metrics"

# Characters of a span's name and, unless the environment says otherwise, of its attributes. Clients choose both, and up
# to 2,048 spans wait for a collector.
MAX_NAME = 200
os.environ.setdefault("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "500")  # read when BentoML makes its application


def is_enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a collector is named."""
    return any(environment.get(name) for name in ENDPOINTS)


def tracing_options(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return BentoML's option `tracing`; without a collector no request is even considered, which takes 0.25 ms."""
    if not is_enabled(environment):
        return {"excluded_urls": "."}
    given = environment.get("OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        sampled = float(given)
    except ValueError:
        sampled = -1.0
    if not 0.0 <= sampled <= 1.0:
        raise InvalidInput(f"OTEL_TRACES_SAMPLER_ARG={given} cannot be used: expected a number from 0 to 1")
    # The exporter reads its endpoint from the environment; without `otlp` BentoML makes no exporter.
    return {"exporter_type": "otlp", "sample_rate": sampled, "otlp": {"protocol": "http"}, "excluded_urls": PROBES}


def traced(app: ASGIApp) -> ASGIApp:
    """Return an application whose requests are traced, as BentoML would do it, where a collector is set."""
    if not is_enabled():
        return app
    from bentoml._internal.configuration.containers import BentoMLContainer
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware, get_default_span_details

    excluded, provider = BentoMLContainer.tracing_excluded_urls.get(), BentoMLContainer.tracer_provider.get()
    traced: ASGIApp = OpenTelemetryMiddleware(
        app,
        excluded_urls=excluded,
        tracer_provider=provider,
        default_span_details=lambda scope: (get_default_span_details(scope)[0][:MAX_NAME], {}),
        exclude_spans=["receive", "send"],
    )
    return traced
