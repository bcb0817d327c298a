from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import now
from app.models.execution import Execution, ExecutionStatus
from app.repositories.execution import ExecutionRepository, append, expire_approvals, release_run
from app.repositories.usage import ReservationRepository
from app.schemas.execution_event import ExecutionCancelled
from app.services.agents.events import to_new_event
from app.services.agents.settling import settle
from app.services.agents.subagents import report_end


async def cancel(
    session: AsyncSession, executions: ExecutionRepository, execution: Execution, max_tokens: int
) -> Sequence[UUID]:
    """Cancels a locked execution and its open subagents, and returns the ids of all that it cancelled.

    Their runs write nothing more. `max_tokens` limits what is kept of a reply beside its text.
    """
    if execution.status.is_final:
        return []
    release_run(execution, ExecutionStatus.cancelled)
    await ReservationRepository(session).release([execution.id])  # the process of its run may be dead
    execution.finished_at, execution.context = now(), None
    append(session, execution, to_new_event(ExecutionCancelled()))
    await expire_approvals(session, execution)
    ended = [execution.id]
    for child in await executions.open_children(execution):
        ended += await cancel(session, executions, child, max_tokens)
        await report_end(session, child, {"status": ExecutionStatus.cancelled}, execution)
    await session.flush()
    await settle(session, execution, {"status": ExecutionStatus.cancelled}, max_tokens)
    return ended
