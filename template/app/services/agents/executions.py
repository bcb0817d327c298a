from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import AppError, Invalid
from app.core.rate_limits import MINUTE, RateLimiter, Rule
from app.core.security import fingerprint
from app.core.telemetry.spans import note
from app.models.execution import Execution, ExecutionStatus
from app.repositories.base import Page
from app.repositories.execution import ExecutionRepository, enqueue_run
from app.repositories.idempotency_key import IdempotencyRepository
from app.schemas.execution import (
    ApprovalRead,
    Configuration,
    ExecutionCreate,
    ExecutionDetail,
    ExecutionError,
    ExecutionRead,
)
from app.schemas.message import ApprovalAnswer
from app.services.agents.approvals import Approvals
from app.services.agents.cancellation import cancel
from app.services.agents.configuration import load_configuration
from app.services.agents.events import to_usage
from app.services.agents.notifier import ExecutionNotifier
from app.services.agents.settings import ExecutionSettings
from app.services.agents.subagents import report_end


class TooManyExecutions(AppError):
    status, code = 429, "too_many_executions"


class ExecutionService:
    """Manages one person's executions: starts, lists and cancels them, and answers their approvals."""

    def __init__(
        self,
        settings: ExecutionSettings,
        database: Database,
        rate_limiter: RateLimiter,
        notifier: ExecutionNotifier,
        *,
        history_max_tokens: int,
        user_id: UUID,
    ) -> None:
        self._settings = settings
        self._database = database
        self._rate_limiter = rate_limiter
        self._notifier = notifier
        self._history_max_tokens = history_max_tokens
        self._user_id = user_id

    async def execute(self, agent_id: UUID, data: ExecutionCreate, key: str | None = None) -> ExecutionRead:
        """Queues an execution; with an idempotency key that was used before, returns the first one instead.

        Raises Invalid, NotFound, Conflict, TooManyRequests, TooManyExecutions.
        """
        if len(data.input) > self._settings.execution_input_max_characters:
            raise Invalid(f"An input has at most {self._settings.execution_input_max_characters} characters.")
        await self._rate_limiter.hit(
            Rule("executions", self._settings.executions_per_minute, MINUTE), str(self._user_id)
        )
        async with self._database.write(self._user_id) as session:
            execution = await self._begin(session, agent_id, data, key)
        note(execution_id=str(execution.id))
        return to_execution_read(execution)

    async def list(
        self, limit: int, cursor: UUID | None, status: ExecutionStatus | None, agent_id: UUID | None
    ) -> Page[Execution]:
        """Lists executions, newest first; those of subagents only when filtered by their agent."""
        async with self._database.read() as session:
            return await ExecutionRepository(session, self._user_id).filter(limit, cursor, status, agent_id)

    async def get(self, id: UUID) -> ExecutionDetail:
        """Returns an execution with its configuration and its approvals. Raises NotFound."""
        async with self._database.read() as session:
            executions = ExecutionRepository(session, self._user_id)
            execution = await executions.get(id)
            approvals = await executions.approvals(execution)
        return ExecutionDetail(
            **dict(to_execution_read(execution)),
            configuration=Configuration.model_validate(execution.configuration),
            approvals=[ApprovalRead.model_validate(approval) for approval in approvals],
        )

    async def cancel(self, id: UUID) -> ExecutionRead:
        """Cancels an execution and its subagents; their workers write nothing more, and stop. Raises NotFound."""
        async with self._database.write(self._user_id) as session:
            executions = ExecutionRepository(session, self._user_id)
            *above, execution = await executions.lock_with_ancestors(id)
            changed = await cancel(session, executions, execution, self._history_max_tokens)
            if changed and above:
                await report_end(session, execution, {"status": ExecutionStatus.cancelled}, above[-1])
        self._notifier.notify(*changed, *(ancestor.id for ancestor in above))
        return to_execution_read(execution)

    async def answer(self, id: UUID, data: ApprovalAnswer) -> ExecutionRead:
        """Approves or denies a tool call that waits for it. Raises NotFound, Conflict."""
        async with self._database.write(self._user_id) as session:
            chain = await Approvals(session, self._user_id).answer(id, data)
        self._notifier.notify(*(execution.id for execution in chain))
        return to_execution_read(chain[-1])

    async def _begin(self, session: AsyncSession, agent_id: UUID, data: ExecutionCreate, key: str | None) -> Execution:
        executions, id = ExecutionRepository(session, self._user_id), uuid7()
        await executions.lock_owner(exclusive=True)  # or two requests at once would not count each other
        if key:
            asked = fingerprint(f"execute {agent_id} {data.model_dump_json()}")
            first_id = await IdempotencyRepository(session, self._user_id).claim(key, asked, id)
            if first_id != id:
                return await executions.get(first_id)
        runs_with = await load_configuration(session, self._user_id, agent_id, self._settings.limits)
        await check_room(executions, self._settings)
        execution = await executions.create(
            id=id,
            agent_id=agent_id,
            status=ExecutionStatus.queued,
            input=data.input,
            configuration=runs_with.model_dump(mode="json"),
        )
        await enqueue_run(session, execution)
        return execution


async def check_room(executions: ExecutionRepository, settings: ExecutionSettings) -> None:
    """Raises TooManyExecutions when too many are under way; the caller holds the person's lock."""
    most = settings.max_concurrent_executions
    if most and await executions.count_open() >= most:
        raise TooManyExecutions(
            f"At most {most} of your executions and replies of agents are under way at a time; wait, or stop one."
        )


def to_execution_read(execution: Execution) -> ExecutionRead:
    error = None if execution.code is None else ExecutionError(code=execution.code, detail=execution.detail or "")
    return ExecutionRead(
        id=execution.id,
        agent_id=execution.agent_id,
        parent_id=execution.parent_id,
        message_id=execution.message_id,
        status=execution.status,
        input=execution.input,
        output=execution.output,
        error=error,
        usage=to_usage(execution),
        created_at=execution.created_at,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
    )
