"""Executions of all users, for the workers that run them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.models.base import now
from app.models.execution import OPEN, Approval, ApprovalStatus, Execution, ExecutionEvent, ExecutionStatus
from app.models.user import User
from app.repositories.base import constant
from app.repositories.execution import NewEvent
from app.repositories.process import alive
from app.repositories.usage import ReservationRepository, Used


@dataclass(frozen=True, slots=True)
class History:
    """What a run goes on from."""

    entries: Sequence[Mapping[str, Any]]
    called: Collection[str]
    """Ids of the calls that have begun."""
    approvals: Mapping[str, Approval]
    """By the id of the call."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An execution that one process may run, and what it goes on from."""

    execution: Execution
    run_id: UUID
    history: History


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """What differs when there is news of an execution."""

    last_sequence: int
    run_id: UUID | None
    status: ExecutionStatus


def state_of(execution: Execution) -> ExecutionState:
    return ExecutionState(execution.last_sequence, execution.run_id, execution.status)


class RunRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def claimable(self, process_id: UUID, limit: int, *, also_of_dead: bool) -> Sequence[UUID]:
        """The oldest first: queued ones and, if asked for, those whose worker is dead."""
        found = select(Execution.id).where(_claimable(process_id, also_of_dead)).order_by(Execution.id).limit(limit)
        return (await self._session.scalars(found)).all()

    async def claim(self, process_id: UUID, ids: Collection[UUID], *, also_of_dead: bool) -> Sequence[Claim]:
        """Those of them that nobody else has claimed meanwhile. What was reserved for a lost step is given back."""
        of = and_(Execution.id.in_(ids), _claimable(process_id, also_of_dead))
        found = select(Execution).where(of).order_by(Execution.id).with_for_update(skip_locked=True)
        claims = [await self._claim(process_id, row) for row in (await self._session.scalars(found)).all()]
        await self._session.flush()
        if known := [claim.execution.id for claim in claims if claim.execution.last_sequence]:
            await ReservationRepository(self._session).release(known)
        return claims

    async def _claim(self, process_id: UUID, execution: Execution) -> Claim:
        run_id, history = uuid7(), await self._history(execution)
        execution.losses += execution.status is ExecutionStatus.running
        execution.status, execution.run_id, execution.process_id = ExecutionStatus.running, run_id, process_id
        execution.started_at = execution.started_at or now()
        return Claim(execution, run_id, history)

    async def _history(self, execution: Execution) -> History:
        if not execution.last_sequence:
            return History([], [], {})
        events = (
            select(ExecutionEvent.type, ExecutionEvent.data, ExecutionEvent.entry)
            .where(ExecutionEvent.execution_id == execution.id)
            .order_by(ExecutionEvent.sequence)
        )
        happened = (await self._session.execute(events)).all()
        approvals = await self._session.scalars(select(Approval).where(Approval.execution_id == execution.id))
        return History(
            [row.entry for row in happened if row.entry is not None],
            {row.data["tool_call_id"] for row in happened if row.type == "tool.called"},
            {approval.tool_call_id: approval for approval in approvals},
        )

    async def advance(self, id: UUID, run_id: UUID, sequence: int, values: Mapping[str, Any]) -> bool:
        """False when it has gone on since this sequence, or the run is not the execution's any more."""
        of = (Execution.id == id, Execution.run_id == run_id, Execution.last_sequence == sequence)
        changed = update(Execution).where(*of).values(**values).returning(Execution.id)
        return await self._session.scalar(changed) is not None

    async def add_events(self, execution_id: UUID, after: int, events: Sequence[NewEvent]) -> None:
        rows = [
            {
                "execution_id": execution_id,
                "sequence": sequence,
                "type": event.type,
                "data": event.data,
                "entry": event.entry,
            }
            for sequence, event in enumerate(events, start=after + 1)
        ]
        if rows:
            await self._session.execute(insert(ExecutionEvent), rows)

    async def states(self, ids: Collection[UUID]) -> Mapping[UUID, ExecutionState]:
        """Those that are there."""
        columns = (Execution.id, Execution.last_sequence, Execution.run_id, Execution.status)
        found = await self._session.execute(select(*columns).where(Execution.id.in_(ids)))
        return {row[0]: ExecutionState(row[1], row[2], row[3]) for row in found}

    async def hold_user(self, id: UUID) -> None:
        """Before anything of theirs is locked: whoever deletes them goes the same way, and one of the two waits."""
        await self._session.execute(select(User.id).where(User.id == id).with_for_update(read=True, key_share=True))

    async def lock_ancestors(self, execution: Execution) -> Sequence[Execution]:
        """From the first one down, and before the execution itself, as everybody does who changes several."""
        ids: list[UUID] = []
        parent_id = execution.parent_id
        while parent_id is not None:
            ids.insert(0, parent_id)
            parent_id = await self._session.scalar(select(Execution.parent_id).where(Execution.id == parent_id))
        locked = (select(Execution).where(Execution.id == id).with_for_update() for id in ids)
        found = [await self._session.scalar(ancestor) for ancestor in locked]
        return [ancestor for ancestor in found if ancestor is not None]

    async def add_usage(self, id: UUID, used: Used) -> None:
        """Of one request to a model."""
        totals: dict[Any, Any] = {
            Execution.steps: Execution.steps + 1,
            Execution.input_tokens: Execution.input_tokens + used.input_tokens,
            Execution.output_tokens: Execution.output_tokens + used.output_tokens,
        }
        if used.cost is not None:
            totals[Execution.cost] = func.coalesce(Execution.cost, 0) + used.cost
        await self._session.execute(update(Execution).where(Execution.id == id).values(totals))

    async def release(self, id: UUID, run_id: UUID) -> None:
        """Back into the queue, unless somebody else has it."""
        free = {"status": ExecutionStatus.queued, "run_id": None, "process_id": None}
        await self._session.execute(
            update(Execution).where(Execution.id == id, Execution.run_id == run_id).values(**free)
        )

    async def of_process(self, process_id: UUID) -> Sequence[UUID]:
        """The runs that a process may go on with."""
        mine = (Execution.process_id == process_id, Execution.status == constant(ExecutionStatus.running))
        return [id for id in await self._session.scalars(select(Execution.run_id).where(*mine)) if id]

    async def count_open(self) -> Mapping[ExecutionStatus, int]:
        """Those that are queued and those that run, by their status."""
        counted = select(Execution.status, func.count()).where(OPEN).group_by(Execution.status)
        return {row[0]: row[1] for row in await self._session.execute(counted)}

    async def overdue(self, limit: int) -> Sequence[tuple[UUID, str, UUID]]:
        """The executions that wait for approvals in vain, with the call and the user."""
        late = (
            select(Approval.execution_id, Approval.tool_call_id, Execution.user_id)
            .join(Execution, Execution.id == Approval.execution_id)
            .where(Approval.status == ApprovalStatus.pending, Approval.expires_at <= now())
            .limit(limit)
        )
        return [(row[0], row[1], row[2]) for row in await self._session.execute(late)]

    async def delete_finished(self, before: datetime) -> None:
        """With their events. Those of subagents go with the execution that they belong to."""
        old = (Execution.finished_at < before, Execution.parent_id.is_(None))
        await self._session.execute(delete(Execution).where(*old))


def _claimable(process_id: UUID, also_of_dead: bool) -> ColumnElement[bool]:
    queued = Execution.status == constant(ExecutionStatus.queued)
    if not also_of_dead:
        return queued
    running = Execution.status == constant(ExecutionStatus.running)
    dead = Execution.process_id.is_distinct_from(process_id) & Execution.process_id.not_in(alive())
    return or_(queued, and_(running, dead))
