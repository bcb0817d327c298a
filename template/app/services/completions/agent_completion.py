"""Follows answers of agents, which are executions, and cancels those of which nobody hears any more."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Any
from uuid import UUID, uuid5

import structlog
from anyio import CancelScope
from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import AppError, NotFound
from app.core.retries import retry
from app.core.streams.base import KEEP_ALIVE_SECONDS
from app.models.execution import Execution
from app.repositories.execution import ExecutionRepository
from app.services.agents.cancellation import cancel
from app.services.agents.replies import ReplyDependencies
from app.services.agents.stream import ExecutionProgress, ExecutionStream
from app.services.completions.agent_events import AnswerReader, ApprovalRequired
from app.services.completions.base import CompletionEnd, Interrupted, Step

QUIET_SECONDS = KEEP_ALIVE_SECONDS / 2
"""Sets how long nothing was said when news that are not for the client become a sign of life."""

log = structlog.stdlib.get_logger("app.completions")


class AgentCompletion:
    """Follows the answer of an agent, which its execution gives, whichever process runs it."""

    def __init__(
        self,
        dependencies: ReplyDependencies,
        stream: ExecutionStream,
        execution: Execution,
        given: Collection[str],
        *,
        is_kept: bool,
    ) -> None:
        self.id = uuid5(execution.id, " ".join(sorted(given))) if given else execution.id
        """Differs from that of the answer before the client's results, which is of the same execution."""
        self.created_at = execution.created_at
        self._needs = dependencies
        self._stream = stream
        self._execution = execution
        self._reader = AnswerReader(given)
        self._is_kept = is_kept
        """Tells whether the client may come back for the answer, so that the execution goes on when it leaves."""

    async def follow(self) -> AsyncGenerator[Step]:
        """Yields the answer. Raises ModelFailure, ApprovalRequired, Interrupted, NotFound."""
        goes_on, said_at = self._is_kept, monotonic()
        try:
            async with aclosing(self._progress()) as progress:
                async for step in progress:
                    for said in () if step.data is None else self._reader.read(step.type, step.data):
                        goes_on, said_at = goes_on or isinstance(said, CompletionEnd), monotonic()
                        yield said
                        if isinstance(said, CompletionEnd):
                            return
                    if monotonic() - said_at > QUIET_SECONDS:
                        said_at = monotonic()
                        yield None
                    if (
                        step.data is not None
                        and step.type == "approval.requested"
                        and await self._asks_a_person(step.data)
                    ):
                        goes_on = True
                        raise ApprovalRequired(step.data["of"], step.data["tool_call_id"])
            if self._stream.is_stopping:
                raise Interrupted("The answer was interrupted; ask again.")
            raise NotFound("Execution", self._execution.id)
        finally:
            if not goes_on:
                with CancelScope(shield=True):
                    await self._cancel()

    def _progress(self) -> AsyncGenerator[ExecutionProgress]:
        runner, execution = self._needs.runner, self._execution
        run_id = None if runner is None else runner.find_run(execution.id)
        if run_id is not None and run_id == execution.run_id:  # or another run has taken its place
            return self._stream.follow_run(execution.id, run_id)
        return self._stream.follow(execution)

    async def _asks_a_person(self, call: Mapping[str, Any]) -> bool:
        """Tells whether a call still waits for approval; it may be one of a subagent."""
        async with self._needs.database.read() as session:
            executions = ExecutionRepository(session, self._execution.user_id)
            return await executions.waits_for_approval_of(UUID(call["of"]), call["tool_call_id"])

    async def _cancel(self) -> None:
        """Cancels the execution, since nobody hears of it any more."""

        async def cancel_all() -> Sequence[UUID]:
            async with self._needs.database.write(self._execution.user_id) as session:
                executions = ExecutionRepository(session, self._execution.user_id)
                [execution] = await executions.lock_with_ancestors(self._execution.id)
                return await cancel(session, executions, execution, max_tokens=0)

        try:
            changed = await retry(cancel_all, "cancellation of an execution", is_patient=lambda: False)
        except AppError:
            return  # the execution or the account is gone
        except SQLAlchemyError:
            log.exception("execution not cancelled", execution_id=str(self._execution.id))
            return
        self._needs.notifier.notify(*changed)
