"""Begins to send what the settings ask for. Without them nothing is imported, and spans and meters do nothing."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from threading import Thread
from time import monotonic

from app.core.config import Settings, read_settings
from app.core.errors import SetupError
from app.core.telemetry.lifecycle import CLOSE_SECONDS, End
from app.core.telemetry.settings import TelemetrySettings


@asynccontextmanager
async def open_telemetry(settings: Settings) -> AsyncGenerator[TelemetrySettings]:
    """Opens telemetry once per process, around all else, so that what ends inside is still sent. Raises SetupError."""
    wanted = read_settings(TelemetrySettings)
    ends = list(_begun(settings, wanted))
    try:
        yield wanted
    finally:
        _end(ends)


def lacking(wanted: TelemetrySettings) -> dict[str, str]:
    """Returns the settings that need packages which are not installed, each with a sentence that says what to do."""
    needed = (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", wanted.sends, "opentelemetry.exporter.otlp.proto.http"),
        ("SENTRY_DSN", wanted.sentry_dsn, "sentry_sdk"),
    )
    return {
        name: f"{name} needs packages that are not installed: run `uv sync --extra telemetry`, or unset it."
        for name, is_wanted, package in needed
        if is_wanted and not _is_installed(package)
    }


def _begun(settings: Settings, wanted: TelemetrySettings) -> Iterator[End]:
    if sentences := lacking(wanted):
        raise SetupError(" ".join(sentences.values()))
    if wanted.sends:
        from app.core.telemetry.otlp import begin

        yield from begin(settings, wanted)
    if wanted.sentry_dsn is not None:
        from app.core.telemetry.sentry import report

        yield report(settings, wanted.sentry_dsn.get_secret_value())


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it is a part of is missing
        return False


def _end(ends: Sequence[End]) -> None:
    """Ends all in daemon threads, so that a receiver that does not answer cannot keep the process from ending."""
    until = monotonic() + CLOSE_SECONDS
    threads = [Thread(target=end, daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - monotonic(), 0))
