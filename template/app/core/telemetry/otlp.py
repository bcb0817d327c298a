"""Sends spans and metrics over OTLP. It is imported only where a receiver is set: that takes 0.1 s and 4 MB."""

from collections.abc import Iterator, Sequence
from socket import gethostname
from typing import Any
from uuid import uuid4

from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Setter, default_setter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AnyValue, Attributes

from app import __version__
from app.core.config import Settings
from app.core.telemetry.http_client import trace_requests
from app.core.telemetry.lifecycle import End
from app.core.telemetry.settings import TelemetrySettings
from app.core.telemetry.spans import ALLOWED_ATTRIBUTES
from app.core.telemetry.sql import trace_statements

CONTENT = ("gen_ai.", "logfire.")
"""Lists prefixes of the attributes in which pydantic-ai repeats what people and models say."""


def begin(settings: Settings, wanted: TelemetrySettings) -> Iterator[End]:
    """Begins to send, for the rest of the process. Yields the functions that end it."""
    resource = _resource(settings, wanted)
    if wanted.sends_metrics:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(), wanted.otel_metric_export_interval)
        meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        metrics.set_meter_provider(meters)
        yield meters.shutdown
    if wanted.sends_traces:
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = RedactingExporter(OTLPSpanExporter(), with_content=wanted.telemetry_content)
        tracers.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(tracers)
        propagate.set_global_textmap(Incoming())
        trace_statements()
        trace_requests()
        yield tracers.shutdown


class Incoming(TraceContextTextMapPropagator):
    """Accepts a caller's trace, and passes none on to the services called: SDKs of providers would send it along."""

    def inject(self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter) -> None:
        pass


class RedactingExporter(SpanExporter):
    """Passes spans on without what must stay here. It is the last to see them, so it covers those of every library."""

    def __init__(self, exporter: SpanExporter, *, with_content: bool) -> None:
        self._exporter = exporter
        self._allowed = (*ALLOWED_ATTRIBUTES, *CONTENT) if with_content else ALLOWED_ATTRIBUTES

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([self._discreet(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def _discreet(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self._filtered(span.attributes),
            events=[Event(event.name, self._filtered(event.attributes), event.timestamp) for event in span.events],
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code),  # its description would quote an error
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _filtered(self, attributes: Attributes) -> dict[str, AnyValue]:
        return {name: value for name, value in (attributes or {}).items() if name.startswith(self._allowed)}


def _resource(settings: Settings, wanted: TelemetrySettings) -> Resource:
    """Describes this process; OTEL_RESOURCE_ATTRIBUTES adds to it."""
    return Resource.create(
        {
            "service.name": wanted.otel_service_name or settings.app_name,
            "service.version": __version__,
            "service.instance.id": str(uuid4()),
            "deployment.environment.name": settings.environment,
            "host.name": gethostname(),
        }
    )
