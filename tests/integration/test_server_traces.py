"""Traces as a collector gets them: decoded by OpenTelemetry's own messages."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.servers import running
from tests.support.shades import shade

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(ThreadingHTTPServer):
    """Keeps the spans that are sent to it, with the service's name."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for each in sent.resource_spans:
                    names = {pair.key: pair.value.string_value for pair in each.resource.attributes}
                    spans.extend((names["service.name"], span) for scope in each.scope_spans for span in scope.spans)
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


def test_request_and_its_phases_seen_when_a_collector_is_named(
    tmp_path: Path, bright_model: Path, collector: Collector
) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    with running(tmp_path, MODEL_URI=str(bright_model), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server:
        answer = server.post("/detect", shade(200), traceparent=f"00-{CALLER}-00f067aa0ba902b7-01")
        assert server.post("/detect", b"no picture").status == 415
        server.get("/nowhere")
        server.get("/healthz")
        (logged,) = [line for line in server.lines() if line.get("request_id") == answer.json()["request_id"]]
        assert logged["trace_id"] == CALLER
    assert {service for service, _ in collector.spans} == {"flywheel-serving"}
    spans = [span for _, span in collector.spans]
    roots = {(span.name, attributes(span)["http.response.status_code"]): span for span in spans if span.kind == 2}
    assert roots.keys() == {("POST /detect", 200), ("POST /detect", 415), ("GET", 404)}
    root = roots["POST /detect", 200]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (CALLER, "00f067aa0ba902b7")
    assert attributes(root)["flywheel.request_id"] == answer.json()["request_id"]
    (event,) = root.events
    phases = {pair.key: pair.value.double_value for pair in event.attributes}
    times = answer.json()["timings_ms"]
    assert phases == {f"{name}_ms": pytest.approx(times[name], abs=0.01) for name in times if name != "total"}
    assert root.start_time_unix_nano < event.time_unix_nano < root.end_time_unix_nano


def test_requests_answered_when_the_collector_is_away(tmp_path: Path, bright_model: Path) -> None:
    with running(tmp_path, MODEL_URI=str(bright_model), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:
        assert {server.post("/detect", shade(value)).status for value in range(20)} == {200}
        process = server.process
    assert process.returncode in (0, -15)  # ended by itself, and in time
