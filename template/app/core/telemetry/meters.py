"""Defines what is counted. Unless `open_telemetry` has begun to send metrics, counting does nothing."""

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import metrics
from opentelemetry.metrics import UpDownCounter

meter = metrics.get_meter("app")

sockets = meter.create_up_down_counter("app.sockets", "{socket}", "WebSockets that are open.")


@contextmanager
def open_one(counter: UpDownCounter) -> Generator[None]:
    """Counts one more for the length of the block."""
    counter.add(1)
    try:
        yield
    finally:
        counter.add(-1)
