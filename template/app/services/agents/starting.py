"""Begins executions for which somebody waits: in this process if it has room, else in the queue."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.models.base import now
from app.models.execution import Execution, ExecutionStatus
from app.repositories.execution import ExecutionRepository, enqueue_run
from app.repositories.execution_queue import Claim, History, RunRepository
from app.schemas.execution import Configuration
from app.schemas.execution_event import ExecutionStarted, ModelStarted
from app.services.agents.events import to_new_event
from app.services.agents.executions import check_room
from app.services.agents.runner import ExecutionRunner
from app.services.agents.settings import ExecutionSettings


class ExecutionStarter:
    def __init__(self, settings: ExecutionSettings, runner: ExecutionRunner | None, process_id: UUID) -> None:
        """Takes what runs executions in this process, if any are run here."""
        self._settings = settings
        self._runner = runner
        self._process_id = process_id

    async def start(
        self, session: AsyncSession, executions: ExecutionRepository, execution: Execution, runs_with: Configuration
    ) -> Callable[[], None]:
        """Stores a new execution, whose owner the caller has locked; returns what starts it after the transaction.

        Raises TooManyExecutions.
        """
        await check_room(executions, self._settings)
        session.add(execution)
        if self._runner is not None and self._runner.has_room:
            return partial(self._runner.start, await self._claim(session, execution, runs_with))
        await session.flush()
        await enqueue_run(session, execution)
        return _nothing

    async def _claim(self, session: AsyncSession, execution: Execution, runs_with: Configuration) -> Claim:
        """Stores that this process has begun the execution, and asks the model next."""
        run_id, attempt = uuid7(), 1
        execution.status, execution.attempt, execution.started_at = ExecutionStatus.running, attempt, now()
        execution.run_id, execution.process_id = run_id, self._process_id
        asked = ModelStarted(model=runs_with.model_name, attempt=attempt)
        begun = [to_new_event(ExecutionStarted()), to_new_event(asked)]
        execution.last_sequence = len(begun)
        await session.flush()
        await RunRepository(session).add_events(execution.id, 0, begun)
        history = History([(event.type, event.data) for event in begun], [], {}, {})
        return Claim(execution, run_id, history, user_is_active=True, begun=begun)


def _nothing() -> None:
    """Starts nothing: a worker takes the execution from the queue."""
