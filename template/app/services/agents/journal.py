"""Stores what a run notes, in one transaction with the usage, before the next effect of the run."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from anyio import CancelScope
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.retries import retry
from app.core.shutdown import Shutdown
from app.core.streams.base import TextStreams
from app.models.base import Base, now
from app.models.execution import Execution, ExecutionStatus
from app.repositories.base import lock_user
from app.repositories.execution import NewEvent, append, enqueue_run, lock_ancestors
from app.repositories.execution_queue import Claim, ExecutionState, RunRepository
from app.repositories.reply import ReplyRepository
from app.repositories.usage import ReservationRepository, UsageRecord, UsageRepository
from app.schemas.execution import Limits
from app.schemas.execution_event import StoredEvent
from app.schemas.message import ReplyEnd
from app.services.agents.events import event_data, to_new_event
from app.services.agents.reply_parts import ReplyParts
from app.services.agents.subagents import add_costs, report_end
from app.services.agents.transcript import to_entry
from app.services.ai import AssistantMessage, ModelUsage, ToolResult
from app.services.chat.replies import request_title
from app.services.chat.stream import to_reply
from app.services.usage.metrics import count_usage

FEATURE = "agents"
"""Names the feature under which usage of agents is counted."""
TOTALS = ("steps", "seconds", "input_tokens", "output_tokens", "cost")

log = structlog.stdlib.get_logger("app.executions")

Rows = Callable[[], Sequence[Base]]
"""Makes the rows anew for each try of a transaction."""


class LeaseLost(Exception):
    """Signals that a run must stop: the execution was cancelled, deleted or taken over, or cannot be stored."""


class StopRequested(Exception):
    """Signals that the execution must not wait any more, since a person has asked to stop it."""


class Journal:
    def __init__(
        self, database: Database, streams: TextStreams, shutdown: Shutdown, claim: Claim, *, writes_titles: bool
    ) -> None:
        self.parts: ReplyParts | None = None
        """Holds the parts of the reply that the execution writes, if it writes one."""
        self.has_reserved = False
        """Turns true when the run has reserved budgets, which the usage of the request replaces."""
        self.is_stopped = False
        """Turns true when a person has asked to stop the execution."""
        self.is_open = True
        """Turns false when the execution ends or waits."""
        self.is_patient = True
        """Decides whether failed writes are retried until the process stops, or only a few times."""
        self._database = database
        self._streams = streams
        self._shutdown = shutdown
        self._execution = execution = claim.execution
        self._run_id = claim.run_id
        self._has_job = claim.has_job
        self._writes_titles = writes_titles
        self._noted: list[NewEvent] = []
        self._noted_above: list[NewEvent] = []
        self._used: list[UsageRecord] = []
        self._reply_end: ReplyEnd | None = None
        self._began = monotonic()
        self._seconds = execution.seconds
        streams.open(claim.run_id)
        if claim.begun:
            self._publish_events(execution.last_sequence, claim.begun)

    @property
    def sequence(self) -> int:
        """Returns the sequence of the event that was noted last."""
        return self._execution.last_sequence + len(self._noted)

    @property
    def used(self) -> Limits:
        """Returns what the execution and its subagents have used so far."""
        execution = self._execution
        return Limits(
            steps=execution.steps,
            tokens=execution.input_tokens + execution.output_tokens,
            seconds=self._seconds + monotonic() - self._began,
            dollars=execution.cost or 0,  # pyright: ignore[reportArgumentType]
        )

    @property
    def _consecutive_crashes(self) -> int:
        """Returns how many processes died in a row; only a completed step, whose event has an entry, resets it to 0."""
        return 0 if any(event.entry for event in self._noted) else self._execution.consecutive_crashes

    def note(
        self, event: StoredEvent, entry: AssistantMessage | ToolResult | None = None, *, also_to_ancestors: bool = False
    ) -> UUID:
        """Notes an event for the next commit, and returns the id that its row will have.

        With `also_to_ancestors`, the ancestors of the execution get the event, too.
        """
        noted = to_new_event(event, None if entry is None else to_entry(entry))
        self._noted.append(noted)
        if self.parts is not None:
            list(self.parts.add(noted.type, noted.data))
        if also_to_ancestors:
            self._noted_above.append(to_new_event(event))
        return noted.id

    def add_usage(self, used: ModelUsage) -> None:
        """Adds the usage of one request to a model, which may have failed."""
        execution = self._execution
        execution.steps += 1
        execution.input_tokens += used.input_tokens
        execution.output_tokens += used.output_tokens
        execution.cost = add_costs(execution.cost, used.cost)
        self._used.append(UsageRecord(used.model, used.input_tokens, used.output_tokens, used.cost))

    def stream_text(self, text: str) -> None:
        """Streams a piece of the model's text to those who follow the run now; it is not stored."""
        self._publish({"sequence": self.sequence, "text": text})

    def stream_reasoning(self, text: str) -> None:
        """Streams a piece of the reasoning that the model shows, in the same way."""
        self._publish({"sequence": self.sequence, "reasoning": text})

    async def commit(self, rows: Rows = tuple) -> None:
        """Stores what was noted, and the rows. Raises LeaseLost."""
        await self._store(rows)

    async def wait(self, rows: Rows = tuple) -> None:
        """Commits and ends the run; an approval or a subagent's end requeues the execution.

        Raises LeaseLost, and StopRequested, of which nothing is stored.
        """
        await self._store(rows, status=ExecutionStatus.waiting, run_id=None, process_id=None)
        self.is_open = False

    async def end(self, status: ExecutionStatus, reply: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Commits the end of the execution, and of the reply that it writes. Raises LeaseLost."""
        ended = {"status": status, "run_id": None, "process_id": None, "finished_at": now(), "context": None}
        await self._store(tuple, reply, **ended, **values)
        self.is_open = False

    async def release(self) -> None:
        """Requeues the execution as it was last stored; usage since then is counted all the same."""
        with CancelScope(shield=True), suppress(LeaseLost):
            await self.transact(self._release_run)
            self._count()

    def close(self) -> None:
        """Ends the live stream, so that those who follow it read what is stored."""
        self._streams.close(self._run_id, "")

    async def _store(self, rows: Rows, reply: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Shields the write from cancellation, which would leave open whether it was stored, and so store it twice."""
        execution, sequence = self._execution, self.sequence
        execution.seconds = self.used.seconds
        with CancelScope(shield=True):
            await self.transact(partial(self._write, sequence, values, rows, reply))
        self._count()
        execution.last_sequence, noted = sequence, self._noted
        self._noted, self._noted_above, self._used = [], [], []
        self._seconds, self._began = execution.seconds, monotonic()
        self._publish_events(sequence, noted)

    async def _write(
        self,
        sequence: int,
        values: dict[str, Any],
        rows: Rows,
        reply: Mapping[str, Any] | None,
        session: AsyncSession,
    ) -> None:
        execution, runs = self._execution, RunRepository(session)
        await lock_user(session, execution.user_id)
        reaches_ancestors = bool(self._noted_above) or "finished_at" in values
        ancestors: Sequence[Execution] = await lock_ancestors(session, execution) if reaches_ancestors else ()
        totals = {name: getattr(execution, name) for name in TOTALS}
        changes = {"last_sequence": sequence, "consecutive_crashes": self._consecutive_crashes, **totals, **values}
        stopped = await runs.advance(execution.id, self._run_id, execution.last_sequence, changes)
        if stopped is None:
            await self._check_stored(runs, sequence, values)
            return
        self.is_stopped = self.is_stopped or stopped
        if stopped and values.get("status") is ExecutionStatus.waiting:
            raise StopRequested
        await runs.add_events(execution.id, execution.last_sequence, self._noted)
        await self._record_usage(session)
        await self._add(session, rows())
        for ancestor in ancestors:
            append(session, ancestor, *(replace(event, id=uuid7()) for event in self._noted_above))
        if ancestors and "finished_at" in values:
            await report_end(session, execution, values, ancestors[-1])
        if reply is not None and execution.message_id is not None:
            settled = await ReplyRepository(session).settle(execution.message_id, reply)
            self._reply_end = settled and to_reply(settled).end
            if settled is not None and self._writes_titles:
                await request_title(session, execution.user_id, settled)

    async def _add(self, session: AsyncSession, rows: Sequence[Base]) -> None:
        """Adds rows, and the jobs of those that are executions."""
        session.add_all(rows)
        for row in rows:
            if isinstance(row, Execution):
                await session.flush()
                await enqueue_run(session, row)

    async def _check_stored(self, runs: RunRepository, sequence: int, values: dict[str, Any]) -> None:
        """Accepts that an earlier try, whose answer was lost, has stored all of it. Raises LeaseLost."""
        run_id, status = values.get("run_id", self._run_id), values.get("status", ExecutionStatus.running)
        id = self._execution.id
        if (await runs.states([id])).get(id) != ExecutionState(sequence, run_id, status):
            raise LeaseLost

    async def _release_run(self, session: AsyncSession) -> None:
        runs = RunRepository(session)
        await lock_user(session, self._execution.user_id)
        for used in self._used:
            await runs.add_usage(self._execution.id, used)
        await self._record_usage(session)
        await ReservationRepository(session).release([self._execution.id])
        if await runs.release(self._execution.id, self._run_id) and not self._has_job:
            await enqueue_run(session, self._execution)

    async def _record_usage(self, session: AsyncSession) -> None:
        for used in self._used:
            usage = UsageRepository(session, self._execution.user_id)
            await usage.record(self._execution.id, FEATURE, used, was_reserved=self.has_reserved)

    def _count(self) -> None:
        for used in self._used:
            count_usage(FEATURE, used)

    async def transact(self, write: Callable[[AsyncSession], Awaitable[object]]) -> None:
        """Retries a write, which must not be lost with a connection. Raises LeaseLost when it gives up."""
        subject = {"execution_id": str(self._execution.id)}

        async def transact() -> None:
            async with self._database.write(self._execution.user_id) as session:
                await write(session)

        try:
            await retry(transact, "write of an execution", is_patient=self._may_retry, **subject)
        except SQLAlchemyError:
            log.exception("execution write failed", **subject)
            raise LeaseLost from None

    def _may_retry(self) -> bool:
        return self.is_patient and not self._shutdown.is_over

    def _publish_events(self, sequence: int, events: Sequence[NewEvent]) -> None:
        """Sends what is stored to those who follow the run, so that they need not read it."""
        first, id = sequence - len(events) + 1, self._execution.id
        told = [event_data(id, number, event) for number, event in enumerate(events, start=first)]
        news: dict[str, Any] = {"sequence": sequence, "events": told}
        if self._reply_end is not None:
            news["reply_end"] = self._reply_end.model_dump(mode="json")
        self._publish(news)

    def _publish(self, news: dict[str, Any]) -> None:
        self._streams.append(self._run_id, json.dumps(news) + "\n")
