"""Receives telemetry and keeps what it is sent, as a collector of OpenTelemetry and Sentry would."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    name: str
    trace_id: str
    id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    text: str
    """Holds the whole span as text."""


@dataclass(frozen=True)
class Point:
    """Holds one value of a metric; for a histogram, how many values it has counted."""

    attributes: dict[str, Any]
    value: float


@dataclass
class Collector:
    url: str
    bodies: list[bytes] = field(default_factory=list[bytes])
    """Holds every request body as it was received."""
    spans: list[Span] = field(default_factory=list[Span])
    points: dict[str, list[Point]] = field(default_factory=dict[str, list[Point]])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    resources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def settings(self) -> dict[str, str]:
        """Returns the settings of a process that sends all telemetry here, and logs in JSON."""
        dsn = self.url.replace("http://", "http://public@") + "/1"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "SENTRY_DSN": dsn, "LOG_FORMAT": "json"}

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def below(self, span: Span) -> list[Span]:
        """Returns the direct children of a span."""
        return [found for found in self.spans if found.parent_id == span.id]

    def knows(self, words: str) -> bool:
        return any(words.encode() in body for body in self.bodies)

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        match path:
            case "/v1/traces":
                self._take_spans(ExportTraceServiceRequest.FromString(body))
            case "/v1/metrics":
                self._take_points(ExportMetricsServiceRequest.FromString(body))
            case "/api/1/envelope/":
                _header, kind, *payload = body.split(b"\n")
                if json.loads(kind)["type"] == "event":
                    self.events.append(json.loads(payload[0]))
            case _:
                raise AssertionError(f"unexpected request to {path}")

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for told in request.resource_spans:
            self.resources.append(_values(told.resource.attributes))
            self.spans += [_span(span) for scope in told.scope_spans for span in scope.spans]

    def _take_points(self, request: ExportMetricsServiceRequest) -> None:
        for metric in (
            found for told in request.resource_metrics for scope in told.scope_metrics for found in scope.metrics
        ):
            data = getattr(metric, metric.WhichOneof("data") or "")
            self.points.setdefault(metric.name, []).extend(map(_point, data.data_points))


def lines(output: str) -> list[dict[str, Any]]:
    """Parses the lines of a JSON log, and skips what else the process prints."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


@contextmanager
def collecting() -> Iterator[Collector]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.collector = collector = Collector(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        is_packed = self.headers.get("content-encoding") == "gzip"
        self.server.collector.take(self.path, gzip.decompress(body) if is_packed else body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _span(span: Any) -> Span:
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return Span(span.name, *ids, _values(span.attributes), failed, str(span))


def _point(point: Any) -> Point:
    names = {found.name for found, _value in point.ListFields()}
    value = point.count if hasattr(point, "count") else point.as_double if "as_double" in names else point.as_int
    return Point(_values(point.attributes), value)


def _values(attributes: Any) -> dict[str, Any]:
    return {found.key: getattr(found.value, found.value.WhichOneof("value")) for found in attributes}
