"""Traces SQL statements within other spans, and so none of those that a process runs by itself every second."""

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from app.core.telemetry.spans import failed

_tracer = trace.get_tracer("app.sql")


def trace_statements() -> None:
    """Traces the statements of every engine."""
    event.listen(Engine, "before_cursor_execute", _begin)
    event.listen(Engine, "after_cursor_execute", _end)
    event.listen(Engine, "handle_error", _fail)


def _begin(connection: Any, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool) -> None:
    """Begins a span with the statement, which has placeholders and not the values."""
    if trace.get_current_span().is_recording():
        verb = statement.split(maxsplit=1)[0].upper()
        attributes = {"db.system.name": connection.dialect.name, "db.operation.name": verb, "db.query.text": statement}
        context.telemetry_span = _tracer.start_span(verb, kind=SpanKind.CLIENT, attributes=attributes)


def _end(_connection: Any, _cursor: Any, _statement: str, _values: Any, context: Any, _many: bool) -> None:
    if span := getattr(context, "telemetry_span", None):
        span.end()


def _fail(failure: ExceptionContext) -> None:
    if span := getattr(failure.execution_context, "telemetry_span", None):
        failed(span, failure.original_exception)
        span.end()
