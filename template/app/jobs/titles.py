"""Has a model write titles of conversations."""

from uuid import UUID

from app.core.jobs import JobContext, job


@job(attempts=2, timeout=300)
async def write_title(context: JobContext, user_id: UUID, reply_id: UUID) -> None:
    """Writes the title of the conversation of a first reply."""
    if context.state.titles is not None:
        await context.state.titles.write(user_id, reply_id)
