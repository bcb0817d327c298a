"""Deletes expired rows, which are void already."""

from app.core.jobs import JobContext, job
from app.services.processes.cleanup import delete_expired


@job(every=3_600)
async def clean_up(context: JobContext) -> None:
    await delete_expired(context.state.database)
