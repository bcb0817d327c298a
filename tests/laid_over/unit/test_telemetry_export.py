"""Tests which attributes of any library's spans the exporter passes on."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.core.telemetry.otlp import RedactingExporter

CONTENT = "gen_ai.input.messages"
SECRET = ("url.full", "url.query", "http.request.header.authorization", "prompt")
HARMLESS = {"app.mine": "hers", "http.route": "/", "gen_ai.usage.input_tokens": 3, "error.type": "RuntimeError"}


def sent(*, with_content: bool) -> str:
    """Exports a span that failed with a secret, and has it in many attributes; returns it as JSON."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(memory, with_content=with_content)))
    told = {**dict.fromkeys(SECRET, "hunter2"), **HARMLESS, CONTENT: "what she asked"}
    with (
        pytest.raises(RuntimeError),
        provider.get_tracer("another's").start_as_current_span("theirs", attributes=told),
    ):
        raise RuntimeError("hunter2")
    provider.shutdown()
    [span] = memory.get_finished_spans()
    assert span.attributes
    assert span.attributes.items() >= HARMLESS.items()
    assert not span.status.is_ok
    assert dict(span.events[0].attributes or {}) == {"exception.type": "RuntimeError"}
    return span.to_json()


def test_only_harmless_attributes_leave() -> None:
    told = sent(with_content=False)
    assert "hunter2" not in told
    assert "what she asked" not in told


def test_what_was_said_may_be_allowed_and_nothing_else() -> None:
    told = sent(with_content=True)
    assert "hunter2" not in told
    assert "what she asked" in told
