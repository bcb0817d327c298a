"""Traces the requests that this service makes as client spans, which name the host, but no path and no content."""

from importlib import import_module
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from app.core.telemetry.spans import failed, note_failure

_tracer = trace.get_tracer("app.http")


def trace_requests() -> None:
    """Traces the requests of all clients of httpx2 until their responses begin. No trace id goes out with them."""
    transport: Any = import_module("httpx2").AsyncHTTPTransport
    handle = transport.handle_async_request

    async def traced(self: Any, request: Any) -> Any:
        if not trace.get_current_span().is_recording():
            return await handle(self, request)
        with _tracer.start_as_current_span(
            request.method,
            kind=SpanKind.CLIENT,
            attributes=_told(request),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                response = await handle(self, request)
            except Exception as error:
                failed(span, error)
                raise
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 400:
                note_failure(str(response.status_code), span)
            return response

    transport.handle_async_request = traced


def _told(request: Any) -> dict[str, str | int]:
    port = request.url.port or {"http": 80}.get(request.url.scheme, 443)
    return {"http.request.method": request.method, "server.address": request.url.host, "server.port": port}
