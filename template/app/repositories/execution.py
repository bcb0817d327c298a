from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.models.execution import (
    FINAL,
    Approval,
    ApprovalStatus,
    Execution,
    ExecutionEvent,
    ExecutionStatus,
)
from app.repositories.base import OwnedRepository


@dataclass(frozen=True, slots=True)
class NewEvent:
    type: str
    data: dict[str, Any]
    entry: dict[str, Any] | None = None


class ExecutionRepository(OwnedRepository[Execution]):
    """Reads and writes one user's executions and, only through them, their events and approvals."""

    model = Execution

    async def count_open(self) -> int:
        """Counts unfinished executions, without those of subagents, which are parts of others."""
        return await self.count(Execution.finished_at.is_(None), Execution.parent_id.is_(None))

    async def events(self, execution: Execution, after: int, limit: int) -> Sequence[ExecutionEvent]:
        found = (
            select(ExecutionEvent)
            .where(ExecutionEvent.execution_id == execution.id, ExecutionEvent.sequence > after)
            .order_by(ExecutionEvent.sequence)
            .limit(limit)
        )
        return (await self._session.scalars(found)).all()

    async def approvals(self, execution: Execution) -> Sequence[Approval]:
        found = select(Approval).where(Approval.execution_id == execution.id).order_by(Approval.id)
        return (await self._session.scalars(found)).all()

    async def get_approval(self, execution: Execution, tool_call_id: str) -> Approval:
        """Returns the approval of a tool call. Raises NotFound."""
        of = (Approval.execution_id == execution.id, Approval.tool_call_id == tool_call_id)
        found = await self._session.scalar(select(Approval).where(*of))
        if found is None:
            raise NotFound("Approval", tool_call_id)
        return found

    async def lock_with_ancestors(self, id: UUID) -> Sequence[Execution]:
        """Locks ancestors from the top down, then the execution, against deadlocks. Raises AccountGone, NotFound."""
        await self.lock_owner()
        chain = [await self.get(id)]
        while (parent_id := chain[0].parent_id) is not None:
            chain.insert(0, await self.get(parent_id))
        return [await self._lock(execution.id) for execution in chain]

    async def open_children(self, execution: Execution) -> Sequence[Execution]:
        """Locks and returns the executions that it delegated and that have not ended."""
        found = self._rows().where(Execution.parent_id == execution.id, Execution.status.not_in(FINAL))
        return (await self._session.scalars(found.order_by(Execution.id).with_for_update())).all()

    async def _lock(self, id: UUID) -> Execution:
        locked = self._rows().where(Execution.id == id).with_for_update().execution_options(populate_existing=True)
        found = await self._session.scalar(locked)
        if found is None:
            raise NotFound("Execution", id)
        return found


def append(session: AsyncSession, execution: Execution, *events: NewEvent) -> None:
    """Appends events to an execution, which the caller has locked."""
    for event in events:
        execution.last_sequence += 1
        session.add(
            ExecutionEvent(
                execution_id=execution.id,
                sequence=execution.last_sequence,
                type=event.type,
                data=event.data,
                entry=event.entry,
            )
        )


async def expire_approvals(session: AsyncSession, execution: Execution) -> None:
    """Marks the pending approvals of an execution as expired, so that nobody is asked any more."""
    pending = select(Approval).where(Approval.execution_id == execution.id, Approval.status == ApprovalStatus.pending)
    for approval in await session.scalars(pending):
        approval.status = ApprovalStatus.expired


def release_run(execution: Execution, status: ExecutionStatus) -> None:
    """Sets a status and takes the lease from the run that is under way, which then writes nothing more."""
    execution.status, execution.run_id, execution.process_id = status, None, None
