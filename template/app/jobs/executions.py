"""Runs executions of agents, and does what is due for all of them."""

from uuid import UUID

from app.core.jobs import JobContext, job
from app.services.agents.approvals import expire
from app.services.agents.runner import QUEUE, delete_old_executions


@job(queue=QUEUE, attempts=None, timeout=None)
async def run_execution(context: JobContext, execution_id: UUID) -> None:
    """Runs an execution until it ends or waits. Its own limits end one that takes too long or kills its processes."""
    await context.state.runner.run(execution_id)


@job(every=5)
async def recover_executions(context: JobContext) -> None:
    await context.state.runner.recover()


@job(every=5)
async def expire_approvals(context: JobContext) -> None:
    await expire(context.state.database, context.state.notifier)


@job(every=3_600)
async def delete_executions(context: JobContext) -> None:
    days = context.state.execution_settings.execution_retention_days
    await delete_old_executions(context.state.database, days)
