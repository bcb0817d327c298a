"""What a run writes. What was noted is stored, in one transaction with what it used, before the next effect."""

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from anyio import CancelScope
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.core.retries import retry
from app.core.streams.base import TextStreams
from app.models.base import Base, now
from app.models.execution import Execution, ExecutionStatus
from app.repositories.execution import NewEvent, append
from app.repositories.execution_queue import ExecutionState, RunRepository
from app.repositories.usage import ReservationRepository, UsageRecord, UsageRepository
from app.schemas.execution import Limits
from app.schemas.execution_event import StoredEvent
from app.services.agents.events import new
from app.services.agents.subagents import add_costs, report_end
from app.services.agents.transcript import stored
from app.services.ai import AssistantMessage, ModelUsage, ToolResult
from app.services.usage.metrics import count

FEATURE = "agents"
"""Under which its usage is counted."""
TOTALS = ("steps", "seconds", "input_tokens", "output_tokens", "cost")

log = structlog.stdlib.get_logger("app.executions")

Rows = Callable[[], Sequence[Base]]
"""Makes them anew for each try."""


class LeaseLost(Exception):
    """The execution was cancelled or deleted, or another worker has taken it over."""


class Journal:
    def __init__(self, database: Database, streams: TextStreams, execution: Execution, run_id: UUID) -> None:
        self.is_open = True
        """Until the execution ends or waits."""
        self.is_patient = True
        """Whether a database that fails is tried again for ever; else only a few times, as when the process stops."""
        self._database = database
        self._streams = streams
        self._execution = execution
        self._run_id = run_id
        self._noted: list[NewEvent] = []
        self._noted_above: list[NewEvent] = []
        self._used: list[UsageRecord] = []
        self._began = monotonic()
        self._seconds = execution.seconds
        streams.open(run_id)

    @property
    def sequence(self) -> int:
        """Of what was noted last."""
        return self._execution.last_sequence + len(self._noted)

    @property
    def used(self) -> Limits:
        """So far, with what subagents used."""
        execution = self._execution
        return Limits(
            steps=execution.steps,
            tokens=execution.input_tokens + execution.output_tokens,
            seconds=self._seconds + monotonic() - self._began,
            dollars=execution.cost or 0,  # pyright: ignore[reportArgumentType]
        )

    @property
    def _consecutive_crashes(self) -> int:
        """Only a step that is done is a step forward."""
        return 0 if any(event.entry for event in self._noted) else self._execution.consecutive_crashes

    def note(
        self, event: StoredEvent, entry: AssistantMessage | ToolResult | None = None, *, also_to_ancestors: bool = False
    ) -> None:
        """`also_to_ancestors`: for those, too, who follow the executions that this one is a part of."""
        self._noted.append(new(event, None if entry is None else stored(entry)))
        if also_to_ancestors:
            self._noted_above.append(new(event))

    def add_usage(self, used: ModelUsage) -> None:
        """On one request to a model, which may have failed."""
        execution = self._execution
        execution.steps += 1
        execution.input_tokens += used.input_tokens
        execution.output_tokens += used.output_tokens
        execution.cost = add_costs(execution.cost, used.cost)
        self._used.append(UsageRecord(used.model, used.input_tokens, used.output_tokens, used.cost))

    def stream_text(self, text: str) -> None:
        """To those who listen now: a piece of what the model says."""
        self._publish({"sequence": self.sequence, "text": text})

    async def commit(self, rows: Rows = tuple) -> None:
        """Raises Lost."""
        await self._store(rows)

    async def wait(self, rows: Rows = tuple) -> None:
        """Commits, and lets the execution go until something happens to it. Raises Lost."""
        await self._store(rows, status=ExecutionStatus.waiting, run_id=None, process_id=None)
        self.is_open = False

    async def end(self, status: ExecutionStatus, **values: Any) -> None:
        """Commits its end. Raises Lost."""
        await self._store(tuple, status=status, run_id=None, process_id=None, finished_at=now(), **values)
        self.is_open = False

    async def release(self) -> None:
        """Another run may go on from what was stored, at once. What was used since then is counted all the same."""
        with CancelScope(shield=True), suppress(LeaseLost):
            await self._transact(self._release_run)
            self._count()

    def close(self) -> None:
        """Those who listen look at what is stored."""
        self._streams.close(self._run_id, "")

    async def _store(self, rows: Rows, **values: Any) -> None:
        """Nothing cuts it: what may be stored and may not would be noted twice."""
        execution, sequence = self._execution, self.sequence
        execution.seconds = self.used.seconds
        with CancelScope(shield=True):
            await self._transact(partial(self._write, sequence, values, rows))
        self._count()
        execution.last_sequence = sequence
        self._noted, self._noted_above, self._used = [], [], []
        self._seconds, self._began = execution.seconds, monotonic()
        self._publish({"sequence": sequence})

    async def _write(self, sequence: int, values: dict[str, Any], rows: Rows, session: AsyncSession) -> None:
        execution, runs = self._execution, RunRepository(session)
        await runs.lock_user(execution.user_id)
        reaches_ancestors = bool(self._noted_above) or "finished_at" in values
        ancestors: Sequence[Execution] = await runs.lock_ancestors(execution) if reaches_ancestors else ()
        totals = {name: getattr(execution, name) for name in TOTALS}
        changes = {"last_sequence": sequence, "consecutive_crashes": self._consecutive_crashes, **totals, **values}
        if not await runs.advance(execution.id, self._run_id, execution.last_sequence, changes):
            await self._check_stored(runs, sequence, values)
            return
        await runs.add_events(execution.id, execution.last_sequence, self._noted)
        await self._record_usage(session)
        session.add_all(rows())
        for ancestor in ancestors:
            append(session, ancestor, *self._noted_above)
        if ancestors and "finished_at" in values:
            report_end(session, execution, values, ancestors[-1])

    async def _check_stored(self, runs: RunRepository, sequence: int, values: dict[str, Any]) -> None:
        """An earlier try, whose answer was lost, may have stored all of it. Raises Lost."""
        run_id, status = values.get("run_id", self._run_id), values.get("status", ExecutionStatus.running)
        id = self._execution.id
        if (await runs.states([id])).get(id) != ExecutionState(sequence, run_id, status):
            raise LeaseLost

    async def _release_run(self, session: AsyncSession) -> None:
        runs = RunRepository(session)
        await runs.lock_user(self._execution.user_id)
        for used in self._used:
            await runs.add_usage(self._execution.id, used)
        await self._record_usage(session)
        await ReservationRepository(session).release([self._execution.id])
        await runs.release(self._execution.id, self._run_id)

    async def _record_usage(self, session: AsyncSession) -> None:
        for used in self._used:
            await UsageRepository(session, self._execution.user_id).record(self._execution.id, FEATURE, used)

    def _count(self) -> None:
        for used in self._used:
            count(FEATURE, used)

    async def _transact(self, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """Tries again and again: what was done must not be lost with a connection. Raises Lost when it gives up."""
        subject = {"execution_id": str(self._execution.id)}

        async def transact() -> None:
            async with self._database.write(self._execution.user_id) as session:
                await write(session)

        try:
            await retry(transact, "write of an execution", is_patient=lambda: self.is_patient, **subject)
        except SQLAlchemyError:
            log.exception("execution given up", **subject)
            raise LeaseLost from None

    def _publish(self, news: dict[str, Any]) -> None:
        self._streams.append(self._run_id, json.dumps(news) + "\n")
