"""Makes the application's own spans, which do and cost nothing unless `open_telemetry` has begun to send them."""

from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode
from structlog.contextvars import bind_contextvars

ALLOWED_ATTRIBUTES = (
    *("app.", "code.", "db.", "error.type", "exception.type", "network.", "operation.cost", "server.", "url.path"),
    *("url.scheme", "http.request.method", "http.request.resend_count", "http.response.status_code", "http.route"),
    *("gen_ai.operation.", "gen_ai.provider.", "gen_ai.request.max_tokens", "gen_ai.request.model"),
    *("gen_ai.request.stream", "gen_ai.request.temperature", "gen_ai.response.", "gen_ai.token.", "gen_ai.usage."),
)
"""Lists prefixes of attributes that hold no words of people and models, no address and no text of an error.

Other attributes are not sent, whoever sets them: SDKs of providers have spans of their own.
"""

_tracer = trace.get_tracer("app")


@contextmanager
def traced(name: str, **attributes: str) -> Generator[Span]:
    """Traces the block as a span. An attribute `user_id` is sent as `app.user.id`."""
    keyed = {_key(attribute): value for attribute, value in attributes.items()}
    with _tracer.start_as_current_span(
        name, attributes=keyed, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            failed(span, error)
            raise


def failed(span: Span, error: BaseException) -> None:
    """Marks a span as failed with the error's code or type, since its text may quote a key or a person's words."""
    note_failure(getattr(error, "code", None) or type(error).__name__, span)


def note_failure(code: str, span: Span | None = None) -> None:
    """Marks the given span, or else the current one, as failed."""
    span = span or trace.get_current_span()
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)


def note(**attributes: str) -> None:
    """Adds attributes to the current span."""
    span = trace.get_current_span()
    for attribute, value in attributes.items():
        span.set_attribute(_key(attribute), value)


def note_user(user_id: UUID) -> None:
    """Names the user in all log lines from now on, and in the current span."""
    bind_contextvars(user_id=str(user_id))
    note(user_id=str(user_id))


def _key(attribute: str) -> str:
    return f"app.{attribute.replace('_', '.')}"
