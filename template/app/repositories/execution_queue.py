"""Reads and writes executions of all users, for the runs of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer
from uuid_utils.compat import uuid7

from app.models.base import now
from app.models.execution import FINAL, OPEN, Approval, ApprovalStatus, Execution, ExecutionEvent, ExecutionStatus
from app.models.message import PENDING as PENDING_REPLY
from app.models.message import Message
from app.models.user import User
from app.repositories.base import delete_of_users
from app.repositories.execution import NewEvent, enqueue_run
from app.repositories.job import JobRepository
from app.repositories.process import of_dead_process
from app.repositories.usage import ReservationRepository, UsageRecord


@dataclass(frozen=True, slots=True)
class History:
    """Holds what a run resumes from."""

    happened: Sequence[tuple[str, Mapping[str, Any]]]
    """Holds the types and the data of its events."""
    entries: Sequence[Mapping[str, Any]]
    called: Mapping[str, UUID]
    """Maps the ids of the tool calls that have begun to those of the events that say so."""
    approvals: Mapping[str, Approval]
    """Maps the ids of tool calls to their approvals."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Represents an execution that one process may run, and what the run resumes from."""

    execution: Execution
    run_id: UUID
    history: History
    user_is_active: bool
    """Tells whether the user's account is active; if not, the run only ends the execution."""
    begun: Sequence[NewEvent] = ()
    """Holds what was stored with an execution that no job runs; it has begun to ask the model."""

    @property
    def has_job(self) -> bool:
        """Tells whether a job runs it, which then also goes on when this process stops."""
        return not self.begun


# Such statements are built once, since building one costs as much as executing it.
_ADVANCE = (
    update(Execution)
    .where(
        Execution.id == bindparam("of"),
        Execution.run_id == bindparam("of_run"),
        Execution.last_sequence == bindparam("at"),
    )
    .returning(Execution.stop_requested)
)

NO_HISTORY = History([], [], {}, {})


@dataclass(frozen=True, slots=True)
class Claimant:
    """Describes a worker that asks for executions."""

    process_id: UUID
    run_ids: Collection[UUID]
    """Lists its runs. Other runs stored for its process were lost, as when a commit succeeds but its answer is lost."""
    also_of_dead: bool
    """Tells whether it can detect dead processes, whose executions it then takes, too."""


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """Holds what changes when there is news of an execution."""

    last_sequence: int
    run_id: UUID | None
    status: ExecutionStatus


def state_of(execution: Execution) -> ExecutionState:
    return ExecutionState(execution.last_sequence, execution.run_id, execution.status)


class RunRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list_claimable(self, claimant: Claimant, limit: int) -> Sequence[UUID]:
        """Returns ids, oldest first, of executions that are queued, lost by the claimant or left by a dead process."""
        claimable = select(Execution.id).where(_claimable(claimant)).cte("claimable")
        found = claimable.prefix_with("MATERIALIZED").c.id  # else SQLite reads all executions, in the order of ids
        return (await self._session.scalars(select(found).order_by(found).limit(limit))).all()

    async def enqueue_missing(self, ids: Collection[UUID]) -> None:
        """Adds jobs for those of these executions for which none waits."""
        keys = await JobRepository(self._session).find_waiting_keys([str(id) for id in ids])
        missing = [id for id in ids if str(id) not in keys]
        of = select(Execution).join(User, User.id == Execution.user_id).where(Execution.id.in_(missing))
        free = of.with_for_update(read=True, key_share=True, of=User, skip_locked=True)
        for execution in await self._session.scalars(free):
            await enqueue_run(self._session, execution)

    async def claim(self, claimant: Claimant, id: UUID) -> Claim | None:
        """Claims an execution unless it has ended, waits, or is run by a process that is alive.

        Releases the reservation of a lost step.
        """
        of = and_(Execution.id == id, _claimable(claimant))
        found = select(Execution, User.is_active).join(User, User.id == Execution.user_id).where(of)
        found = found.options(undefer(Execution.context))
        row = (await self._session.execute(found.with_for_update(of=Execution, skip_locked=True))).one_or_none()
        if row is None:
            return None
        claim = await self._claim(claimant.process_id, *row)
        await self._session.flush()
        if claim.execution.last_sequence:
            await ReservationRepository(self._session).release([id])
        return claim

    async def _claim(self, process_id: UUID, execution: Execution, user_is_active: bool) -> Claim:
        run_id, history = uuid7(), await self.history(execution)
        is_of_dead = execution.status is ExecutionStatus.running and execution.process_id != process_id
        execution.consecutive_crashes += is_of_dead
        execution.attempt += 1
        execution.status, execution.run_id, execution.process_id = ExecutionStatus.running, run_id, process_id
        execution.started_at = execution.started_at or now()
        return Claim(execution, run_id, history, user_is_active)

    async def history(self, execution: Execution) -> History:
        if not execution.last_sequence:
            return NO_HISTORY
        events = (
            select(ExecutionEvent.id, ExecutionEvent.type, ExecutionEvent.data, ExecutionEvent.entry)
            .where(ExecutionEvent.execution_id == execution.id)
            .order_by(ExecutionEvent.sequence)
        )
        happened = (await self._session.execute(events)).all()
        approvals = await self._session.scalars(select(Approval).where(Approval.execution_id == execution.id))
        return History(
            [(row.type, row.data) for row in happened],
            [row.entry for row in happened if row.entry is not None],
            {row.data["tool_call_id"]: row.id for row in happened if row.type == "tool.called"},
            {approval.tool_call_id: approval for approval in approvals},
        )

    async def advance(self, id: UUID, run_id: UUID, sequence: int, values: Mapping[str, Any]) -> bool | None:
        """Updates an execution, and returns whether it was asked to stop.

        Returns None when it is past this sequence, or the run has lost the lease.
        """
        of = {"of": id, "of_run": run_id, "at": sequence}
        changed = _ADVANCE.values(**values).execution_options(synchronize_session=False)
        return await self._session.scalar(changed, of)

    async def add_events(self, execution_id: UUID, after: int, events: Sequence[NewEvent]) -> None:
        rows = [
            {
                "id": event.id,
                "created_at": event.created_at,
                "execution_id": execution_id,
                "sequence": sequence,
                "type": event.type,
                "data": event.data,
                "entry": event.entry,
            }
            for sequence, event in enumerate(events, start=after + 1)
        ]
        if rows:
            # One statement, where those without an entry would be another one.
            await self._session.execute(insert(ExecutionEvent), rows, execution_options={"render_nulls": True})

    async def states(self, ids: Collection[UUID]) -> Mapping[UUID, ExecutionState]:
        """Returns the states of those executions that exist."""
        columns = (Execution.id, Execution.last_sequence, Execution.run_id, Execution.status)
        found = await self._session.execute(select(*columns).where(Execution.id.in_(ids)))
        return {row[0]: ExecutionState(row[1], row[2], row[3]) for row in found}

    async def add_usage(self, id: UUID, used: UsageRecord) -> None:
        """Adds the usage of one request to a model."""
        totals: dict[Any, Any] = {
            Execution.steps: Execution.steps + 1,
            Execution.input_tokens: Execution.input_tokens + used.input_tokens,
            Execution.output_tokens: Execution.output_tokens + used.output_tokens,
        }
        if used.cost is not None:
            totals[Execution.cost] = func.coalesce(Execution.cost, 0) + used.cost
        await self._session.execute(update(Execution).where(Execution.id == id).values(totals))

    async def release(self, id: UUID, run_id: UUID) -> bool:
        """Puts an execution back into the queue. Returns False when another run has it."""
        free = {"status": ExecutionStatus.queued, "run_id": None, "process_id": None}
        released = update(Execution).where(Execution.id == id, Execution.run_id == run_id).values(**free)
        return await self._session.scalar(released.returning(Execution.id)) is not None

    async def of_process(self, process_id: UUID) -> Mapping[UUID, bool]:
        """Returns the ids of the runs that a process may continue, without those of deactivated accounts.

        Each comes with whether it was asked to stop.
        """
        mine = (OPEN, Execution.process_id == process_id, Execution.status == ExecutionStatus.running, User.is_active)
        columns = (Execution.run_id, Execution.stop_requested)
        runs = select(*columns).join(User, User.id == Execution.user_id).where(*mine)
        return {id: stopped for id, stopped in await self._session.execute(runs) if id}

    async def is_of_dead(self, execution: Execution, process_id: UUID) -> bool:
        """Returns whether the process of its run is dead, as another one sees it."""
        dead = of_dead_process(Execution.process_id, process_id)
        return await self._session.scalar(select(Execution.id).where(Execution.id == execution.id, dead)) is not None

    async def list_unsettled(self, limit: int) -> Sequence[Execution]:
        """Returns executions that ended without their replies, as versions before 0.2 end those of a newer one."""
        replies = select(Message.execution_id).where(PENDING_REPLY, Message.execution_id.is_not(None))
        found = select(Execution).where(Execution.id.in_(replies), Execution.status.in_(FINAL)).limit(limit)
        return (await self._session.scalars(found)).all()

    async def list_lost_replies(self, limit: int) -> Sequence[UUID]:
        """Returns pending replies of executions that are gone, as a version before 0.2 deletes old ones."""
        exists = select(Execution.id).where(Execution.id == Message.execution_id).exists()
        lost = select(Message.id).where(PENDING_REPLY, Message.execution_id.is_not(None), ~exists).limit(limit)
        return (await self._session.scalars(lost)).all()

    async def count_open(self) -> Mapping[ExecutionStatus, int]:
        """Counts queued and running executions by their status."""
        counted = select(Execution.status, func.count()).where(OPEN).group_by(Execution.status)
        return {row[0]: row[1] for row in await self._session.execute(counted)}

    async def overdue(self, limit: int) -> Sequence[tuple[UUID, str, UUID]]:
        """Returns the ids of execution, tool call and user of pending approvals that nobody will give any more.

        These have expired, or their users' accounts were deactivated.
        """
        late = (
            select(Approval.execution_id, Approval.tool_call_id, Execution.user_id)
            .join(Execution, Execution.id == Approval.execution_id)
            .join(User, User.id == Execution.user_id)
            .where(Approval.status == ApprovalStatus.pending, or_(Approval.expires_at <= now(), ~User.is_active))
            .limit(limit)
        )
        return [(row[0], row[1], row[2]) for row in await self._session.execute(late)]

    async def delete_finished(self, before: datetime, limit: int) -> int:
        """Deletes old executions with their events and those of subagents; returns how many, subagents not counted."""
        old = (Execution.finished_at < before, Execution.parent_id.is_(None))
        return await delete_of_users(self._session, Execution, *old, limit=limit)


def _claimable(claimant: Claimant) -> ColumnElement[bool]:
    queued = Execution.status == ExecutionStatus.queued
    running = Execution.status == ExecutionStatus.running
    mine = Execution.process_id == claimant.process_id
    abandoned = mine & Execution.run_id.not_in(claimant.run_ids)
    if claimant.also_of_dead:
        abandoned = or_(abandoned, of_dead_process(Execution.process_id, claimant.process_id))
    return and_(OPEN, or_(queued, and_(running, abandoned)))
