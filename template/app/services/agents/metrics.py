"""Measures how many executions are queued and running, which tells whether there are enough workers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.core.database import Database
from app.core.periodic import repeat
from app.core.telemetry.meters import meter
from app.core.telemetry.settings import TelemetrySettings
from app.models.execution import ExecutionStatus
from app.repositories.execution_queue import RunRepository

_gauge = meter.create_gauge("app.executions", "{execution}", "Executions that are queued or running.")

_STATUSES = (ExecutionStatus.queued, ExecutionStatus.running)


@asynccontextmanager
async def open_metrics(database: Database, wanted: TelemetrySettings) -> AsyncGenerator[None]:
    """Measures as often as metrics are sent. Each process reports all executions: take the maximum, not the sum."""

    async def measure() -> None:
        async with database.read() as session:
            counts = await RunRepository(session).count_open()
        for status in _STATUSES:
            _gauge.set(counts.get(status, 0), {"app.status": status.value})

    if not wanted.sends_metrics:
        yield
        return
    async with repeat("counting executions", measure, wanted.otel_metric_export_interval / 1_000, first=0):
        yield
