"""Traces by FastAPI and OpenTelemetry, where a collector is named; else the SDK (extra `traces`) is not imported."""

import os
import sys
from collections.abc import Collection, Mapping

from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import get_current_span
from starlette._utils import get_route_path

OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
_SEND_SECONDS = 5  # that the collector may take
_SERVICE = "flywheel-serving"


class Traces:
    """Spans of a server, sent in batches by a thread; what a collector that is away would not get is dropped.

    OpenTelemetry's own variables hold, such as OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS.
    """

    def __init__(self, endpoint: str) -> None:
        """Send to a collector that takes OTLP over HTTP; exit with a message where the extra is missing."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            sys.exit(
                f"error: OTEL_EXPORTER_OTLP_ENDPOINT: {error}; expected the extra `traces` to be installed, or unset"
            )
        name = os.environ.get("OTEL_SERVICE_NAME") or _SERVICE
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    def telemetry(self, quiet: Collection[str]) -> TelemetryConfig:
        """Return FastAPI's settings: a span for each request but those on quiet routes, and none within."""
        return {
            **OFF,
            "tracing": True,
            "tracer_provider": self._provider,
            "operation_spans": False,  # each costs as much as the request's own
            "exclude": lambda scope: scope["type"] != "http" or get_route_path(scope) in quiet,
        }

    def request(self, request_id: str) -> str:
        """Note the id of the current request in its span; return the trace's id, in hex."""
        span = get_current_span()
        span.set_attribute("flywheel.request_id", request_id)
        return f"{span.get_span_context().trace_id:032x}"

    def picture(self, phases_ms: Mapping[str, float]) -> None:
        """Note in the span of the current request that a picture is done; an event costs less than a span a phase."""
        get_current_span().add_event("picture", {f"{phase}_ms": took for phase, took in phases_ms.items()})

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
