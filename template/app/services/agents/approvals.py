"""Resolves approvals of tool calls, by a person's answer or because nobody answered in time."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.core.errors import AccountGone, Conflict, NotFound
from app.models.base import now
from app.models.execution import Approval, ApprovalKind, ApprovalStatus, Execution, ExecutionStatus
from app.repositories.execution import ExecutionRepository, append, resume
from app.repositories.execution_queue import RunRepository
from app.schemas.execution_event import ApprovalAnswered
from app.schemas.message import ApprovalAnswer
from app.services.agents.cancellation import cancel
from app.services.agents.client_calls import ClientCalls
from app.services.agents.events import to_new_event
from app.services.agents.notifier import ExecutionNotifier

EXPIRED_AT_ONCE = 100


class ApprovalClosed(Conflict):
    code = "approval_closed"


class Approvals:
    """Resolves approvals of one person's executions, in the transaction of the session."""

    def __init__(self, session: AsyncSession, user_id: UUID) -> None:
        self._session = session
        self._executions = ExecutionRepository(session, user_id)

    async def answer(self, execution_id: UUID, data: ApprovalAnswer) -> Sequence[Execution]:
        """Answers a call; returns the requeued execution after its ancestors. Raises NotFound, ApprovalClosed."""
        chain, approval = await self._find(execution_id, data.tool_call_id)
        if approval.kind is ApprovalKind.client_tool:
            raise ApprovalClosed("This tool call needs no approval: the client runs it, and gives its result.")
        if approval.status is ApprovalStatus.expired or approval.expires_at <= now():
            raise ApprovalClosed("This tool call can no longer be answered: it expired, or its execution ended.")
        if approval.status is not ApprovalStatus.pending:
            raise ApprovalClosed(f"This tool call was answered before: it is {approval.status}.")
        await self._close(
            chain, approval, ApprovalStatus.approved if data.approved else ApprovalStatus.denied, data.note
        )
        return chain

    async def expire(self, execution_id: UUID, tool_call_id: str) -> Sequence[Execution]:
        chain, approval = await self._find(execution_id, tool_call_id)
        if approval.status is ApprovalStatus.pending and approval.kind is ApprovalKind.client_tool:
            await self._expire_calls(chain[-1])
        elif approval.status is ApprovalStatus.pending:
            await self._close(chain, approval, ApprovalStatus.expired, None)
        return chain

    async def _expire_calls(self, execution: Execution) -> None:
        """Lets a reply go on without results; of an answer that a client was to fetch with them, nobody hears."""
        if execution.message_id is None:
            await cancel(self._session, self._executions, execution, max_tokens=0)
        else:
            await ClientCalls(self._session, self._executions, execution).expire()

    async def _find(self, execution_id: UUID, tool_call_id: str) -> tuple[Sequence[Execution], Approval]:
        chain = await self._executions.lock_with_ancestors(execution_id)
        return chain, await self._executions.get_approval(chain[-1], tool_call_id)

    async def _close(
        self, chain: Sequence[Execution], approval: Approval, status: ApprovalStatus, note: str | None
    ) -> None:
        approval.status, approval.note, approval.answered_at = status, note, now()
        execution = chain[-1]
        answered = ApprovalAnswered(
            of=execution.id,
            tool_call_id=approval.tool_call_id,
            approved=status is ApprovalStatus.approved,
            expired=status is ApprovalStatus.expired,
            note=note,
        )
        for follower in chain:
            append(self._session, follower, to_new_event(answered))
        if execution.status is ExecutionStatus.waiting:
            await resume(self._session, execution)


async def expire(database: Database, notifier: ExecutionNotifier) -> None:
    """Expires approvals of all users that nobody answered in time, or whose user was deactivated."""
    async with database.read() as session:
        overdue = await RunRepository(session).overdue(EXPIRED_AT_ONCE)
    for execution_id, tool_call_id, user_id in overdue:
        with suppress(AccountGone, NotFound):  # the execution was deleted meanwhile
            async with database.write(user_id) as session:
                chain = await Approvals(session, user_id).expire(execution_id, tool_call_id)
            notifier.notify(*(execution.id for execution in chain))
