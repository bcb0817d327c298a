"""How many executions are queued and running, as a metric: what says whether there are enough workers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.core.database import Database
from app.core.periodic import repeat
from app.core.telemetry.meters import meter
from app.core.telemetry.settings import TelemetrySettings
from app.models.execution import ExecutionStatus
from app.repositories.execution_queue import RunRepository

_gauge = meter.create_gauge("app.executions", "{execution}", "Executions that are queued, and that run.")

_STATUSES = (ExecutionStatus.queued, ExecutionStatus.running)


@asynccontextmanager
async def measuring(database: Database, wanted: TelemetrySettings) -> AsyncGenerator[None]:
    """As often as metrics are sent. Each process tells those of all, so take the largest and not the sum."""

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
