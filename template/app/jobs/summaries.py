"""Has a model sum up what does not fit in the history of a conversation any more."""

from uuid import UUID

from app.core.jobs import JobContext, job


@job(attempts=3, timeout=300)
async def summarize_history(context: JobContext, user_id: UUID, message_id: UUID) -> None:
    """Sums up what comes before a message."""
    if context.state.history_summaries is not None:
        await context.state.history_summaries.write(user_id, message_id)
