"""Where BentoML needs to be changed at start-up; each function is called once, from the place that needs it.

Checked with bentoml 1.4.39 and prometheus_client 0.26. None has an issue upstream that is known to us.
"""

import os

from starlette.applications import Starlette

from service.operations import tracing


def disable_usage_tracking() -> None:
    """Keep BentoML from reporting its use, unless the operator asks for it.

    `bentoml serve` reads the variable before this service is loaded, and caches it
    (bentoml/_internal/utils/analytics/usage_stats.py).
    """
    from bentoml._internal.utils.analytics import usage_stats

    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    usage_stats.do_not_track.cache_clear()


def remove_unused_middleware(app: Starlette) -> Starlette:
    """Remove BentoML's timeout, whose timers are never cancelled, and its tracing where no collector is set.

    Each request leaves a timer for the whole of `traffic.timeout`: at 2,000 requests a second, half a gigabyte that the
    garbage collector scans again and again (bentoml/_internal/server/http/traffic.py). `AdmissionMiddleware` has the
    timeout that counts. The tracing looks at every request to find that it is excluded.
    """
    from bentoml._internal.server.http.traffic import TimeoutMiddleware
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    unused = [TimeoutMiddleware] if tracing.is_enabled() else [TimeoutMiddleware, OpenTelemetryMiddleware]
    app.user_middleware = [middleware for middleware in app.user_middleware if middleware.cls not in unused]
    return app


def use_in_process_metrics() -> None:
    """Keep metrics in the memory of the process.

    `bentoml serve` sets PROMETHEUS_MULTIPROC_DIR, which moves them into memory-mapped files: on a full disk these end
    the process (prometheus_client/values.py).
    """
    from prometheus_client import values

    values.ValueClass = values.MutexValue
