"""Traces reach a collector, as children of the trace of the client."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.tracing import tracing_options
from tests.running import running_service
from tests.service.helpers import wait_for
from tests.toys import GRIZ, galaxies, npy_bytes

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector():
    """Collect spans as an OpenTelemetry collector does: OTLP over HTTP."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            message = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            scopes = [scope for resource in message.resource_spans for scope in resource.scope_spans]
            spans.extend(span for scope in scopes for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


def test_request_is_traced_with_its_parts(make_toy_bundle, tmp_path, collector):
    endpoint, spans = collector
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": 100}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "traced"}
    with running_service(tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path, **variables) as running:
        httpx.post(f"{running.url}/predict_file", content=npy_bytes(galaxies(GRIZ, 3)), headers=headers)
        wait_for(lambda: {"decode", "predict", "encode"} <= {span.name for span in spans})
        wait_for(lambda: any(span.parent_span_id.hex() == PARENT for span in spans))
    traced = [span for span in spans if span.trace_id.hex() == TRACE]
    decode, predict, encode = (next(s for s in traced if s.name == name) for name in ("decode", "predict", "encode"))
    (whole,) = (span for span in traced if span.parent_span_id.hex() == PARENT)
    assert {decode.parent_span_id, predict.parent_span_id, encode.parent_span_id} == {whole.span_id}
    attributes = {attribute.key: attribute.value for attribute in predict.attributes}
    assert (attributes["request_id"].string_value, attributes["rows"].int_value) == ("traced", 3)
    assert decode.end_time_unix_nano <= predict.start_time_unix_nano


def test_tracing_options():
    assert tracing_options({}) == {"excluded_urls": "."}  # no request is considered
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    assert tracing_options(environment)["sample_rate"] == 0.1
