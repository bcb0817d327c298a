from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.errors import NotFound
from app.models.base import now
from app.models.execution import (
    FINAL,
    Approval,
    ApprovalKind,
    ApprovalStatus,
    Execution,
    ExecutionEvent,
    ExecutionStatus,
)
from app.models.message import Message
from app.repositories.base import OwnedRepository, Page
from app.repositories.job import JobRepository
from app.repositories.usage import ReservationRepository


@dataclass(frozen=True, slots=True)
class NewEvent:
    type: str
    data: dict[str, Any]
    entry: dict[str, Any] | None = None
    id: UUID = field(default_factory=uuid7)
    created_at: datetime = field(default_factory=now)


class ExecutionRepository(OwnedRepository[Execution]):
    """Reads and writes one user's executions and, only through them, their events and approvals."""

    model = Execution

    async def count_open(self) -> int:
        """Counts unfinished executions, without those of subagents, which are parts of others.

        One that waits for the results of a client without a conversation does not count, since that may never return.
        """
        asked = (Approval.kind == ApprovalKind.client_tool, Approval.status == ApprovalStatus.pending)
        waits = exists().where(Approval.execution_id == Execution.id, *asked)
        counts = or_(Execution.message_id.is_not(None), ~waits)
        return await self.count(Execution.finished_at.is_(None), Execution.parent_id.is_(None), counts)

    async def filter(
        self, limit: int, cursor: UUID | None, status: ExecutionStatus | None, agent_id: UUID | None
    ) -> Page[Execution]:
        """Lists executions with a status or of an agent; without an agent, those of subagents are left out."""
        of_agent = Execution.parent_id.is_(None) if agent_id is None else Execution.agent_id == agent_id
        of_status = [] if status is None else [Execution.status == status]
        return await self.list(limit, cursor, of_agent, *of_status)

    async def events(self, execution: Execution, after: int, limit: int) -> Sequence[ExecutionEvent]:
        found = (
            select(ExecutionEvent)
            .where(ExecutionEvent.execution_id == execution.id, ExecutionEvent.sequence > after)
            .order_by(ExecutionEvent.sequence)
            .limit(limit)
        )
        return (await self._session.scalars(found)).all()

    async def happened(self, message_ids: Collection[UUID]) -> Mapping[UUID, Sequence[tuple[str, Mapping[str, Any]]]]:
        """Returns the types and the data of the events of the executions that write these replies, by reply."""
        of_them = self._rows().where(Execution.message_id.in_(message_ids), Execution.parent_id.is_(None))
        columns = (Execution.message_id, ExecutionEvent.type, ExecutionEvent.data)
        events = of_them.join(ExecutionEvent, ExecutionEvent.execution_id == Execution.id).with_only_columns(*columns)
        found = defaultdict[UUID, list[tuple[str, Mapping[str, Any]]]](list)
        for id, type, data in await self._session.execute(events.order_by(Execution.id, ExecutionEvent.sequence)):
            if id is not None:
                found[id].append((type, data))
        return found

    async def find_of_call(self, message_id: UUID, tool_call_id: str) -> UUID | None:
        """Returns the execution that made the call, which asks a person: that of the reply, or a subagent's."""
        of_it = Execution.message_id == message_id, Approval.tool_call_id == tool_call_id
        found = self._rows().join(Approval, Approval.execution_id == Execution.id).where(*of_it)
        return await self._session.scalar(found.with_only_columns(Execution.id))

    async def find_of_reply(self, message_id: UUID) -> UUID | None:
        """Returns the execution that writes a reply."""
        of_it = Execution.message_id == message_id, Execution.parent_id.is_(None)
        return await self._session.scalar(self._rows().where(*of_it).with_only_columns(Execution.id))

    async def waits_for_approval(self, message_id: UUID) -> bool:
        of_it = Execution.message_id == message_id, Approval.status == ApprovalStatus.pending
        found = self._rows().join(Approval, Approval.execution_id == Execution.id).where(*of_it)
        return await self._session.scalar(found.with_only_columns(Execution.id).limit(1)) is not None

    async def find_of_client_calls(self, agent_id: UUID, tool_call_ids: Collection[str]) -> UUID | None:
        """Returns the agent's execution without a conversation that has not ended and asked the client to run these.

        Leaves out one that has waited for too long.
        """
        of_it = (
            or_(Approval.status != ApprovalStatus.pending, Approval.expires_at > now()),
            Execution.agent_id == agent_id,
            Execution.message_id.is_(None),
            Execution.finished_at.is_(None),
            Approval.kind == ApprovalKind.client_tool,
            Approval.tool_call_id.in_(tool_call_ids),
        )
        found = self._rows().join(Approval, Approval.execution_id == Execution.id).where(*of_it)
        return await self._session.scalar(found.with_only_columns(Execution.id).limit(1))

    async def waits_for_approval_of(self, id: UUID, tool_call_id: str) -> bool:
        """Tells whether a call of an execution waits for approval."""
        waits = (Execution.id == id, Approval.tool_call_id == tool_call_id, Approval.status == ApprovalStatus.pending)
        found = self._rows().join(Approval, Approval.execution_id == Execution.id).where(*waits)
        return await self._session.scalar(found.with_only_columns(Execution.id)) is not None

    async def delete_of_conversation(self, conversation_id: UUID) -> None:
        """Deletes the executions that write replies of a conversation, those of subagents, and what they reserved."""
        replies = select(Message.id).where(
            Message.conversation_id == conversation_id, Message.execution_id.is_not(None)
        )
        of_it = (Execution.user_id == self._user_id, Execution.message_id.in_(replies))
        deleted = delete(Execution).where(*of_it).returning(Execution.id)
        ids = (await self._session.scalars(deleted, execution_options={"synchronize_session": False})).all()
        await ReservationRepository(self._session).release(ids)

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
        ancestors = await lock_ancestors(self._session, await self.get(id))
        return [*ancestors, await self._lock(id)]

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


async def lock_ancestors(session: AsyncSession, execution: Execution) -> Sequence[Execution]:
    """Locks and returns ancestors from the top down, before the execution itself, against deadlocks."""
    ids: list[UUID] = []
    parent_id = execution.parent_id
    while parent_id is not None:
        ids.insert(0, parent_id)
        parent_id = await session.scalar(select(Execution.parent_id).where(Execution.id == parent_id))
    locked = (select(Execution).where(Execution.id == id).with_for_update() for id in ids)
    found = [await session.scalar(ancestor) for ancestor in locked]
    return [ancestor for ancestor in found if ancestor is not None]


def append(session: AsyncSession, execution: Execution, *events: NewEvent) -> None:
    """Appends events to an execution, which the caller has locked."""
    for event in events:
        execution.last_sequence += 1
        session.add(
            ExecutionEvent(
                id=event.id,
                created_at=event.created_at,
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


async def enqueue_run(session: AsyncSession, execution: Execution) -> None:
    """Adds the job that runs an execution, whose status is `queued`."""
    await JobRepository(session).enqueue(
        "run_execution", {"execution_id": execution.id}, user_id=execution.user_id, key=str(execution.id)
    )


async def resume(session: AsyncSession, execution: Execution) -> None:
    """Queues an execution that waited, whose row the caller has locked."""
    release_run(execution, ExecutionStatus.queued)
    await enqueue_run(session, execution)


def release_run(execution: Execution, status: ExecutionStatus) -> None:
    """Sets a status and takes the lease from the run that is under way, which then writes nothing more."""
    execution.status, execution.run_id, execution.process_id = status, None, None
