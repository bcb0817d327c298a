"""Handles the tool calls of a model: calls tools, which may need approval, and delegates to subagents."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ValidationError
from uuid_utils.compat import uuid7

from app.core.errors import NotFound
from app.core.telemetry.spans import traced
from app.models.base import now
from app.models.execution import Approval, ApprovalKind, ApprovalStatus, Execution, ExecutionStatus
from app.models.tool import Policy
from app.repositories.execution_queue import History
from app.schemas import execution_event as events
from app.schemas.base import Text
from app.schemas.execution import Configuration, GrantedSubagent
from app.services.agents.configuration import load_configuration, subagent_limits
from app.services.agents.dependencies import RunDependencies
from app.services.agents.journal import Journal
from app.services.agents.toolbox import ToolContext, ToolError
from app.services.agents.transcript import PendingToolCall, Transcript
from app.services.ai import ToolResult


class _Delegation(BaseModel):
    task: Text


class ToolCallHandler:
    """Answers the tool calls of one run: adds the result to the transcript, or closes the journal if it must wait."""

    def __init__(
        self,
        dependencies: RunDependencies,
        execution: Execution,
        configuration: Configuration,
        *,
        history: History,
        journal: Journal,
        transcript: Transcript,
    ) -> None:
        self._dependencies = dependencies
        self._execution = execution
        self._configuration = configuration
        self._history = history
        self._journal = journal
        self._transcript = transcript
        self._tools = {tool.name: tool for tool in configuration.tools}
        self._client_tools = {tool.name for tool in configuration.client_tools}
        self._subagents = {subagent.tool: subagent for subagent in configuration.subagents}

    async def answer_next(self, calls: Sequence[PendingToolCall]) -> None:
        """Answers the first of the calls that wait. Those of the client's tools come last, all at once."""
        if calls[0].is_for_client:
            await self._request_results(calls)
        else:
            await self._answer(calls[0])

    async def _answer(self, pending: PendingToolCall) -> None:
        name = pending.call.name
        tool = self._tools.get(name)
        if subagent := self._subagents.get(name):
            await self._delegate(pending, subagent)
        elif name in self._client_tools:
            self._refuse(pending, "The arguments are refused: they are no JSON object.")
        elif tool is None:
            self._refuse(pending, f"There is no tool {name}.")
        elif tool.policy is Policy.deny:
            self._refuse(pending, f"The tool {name} may not be used.")
        elif tool.policy is Policy.ask:
            await self._with_approval(pending, self._history.approvals.get(pending.id))
        else:
            await self._call(pending)

    async def _with_approval(self, pending: PendingToolCall, approval: Approval | None) -> None:
        if approval is None:
            await self._request_approval(pending)
        elif approval.status is ApprovalStatus.pending:
            await self._journal.wait()
        elif approval.status is ApprovalStatus.expired:
            self._refuse(pending, "Nobody approved this call in time.")
        elif approval.status is ApprovalStatus.denied or approval.arguments != pending.call.arguments:
            self._refuse(pending, f"The call was denied{': ' + approval.note if approval.note else '.'}")
        else:
            await self._call(pending)

    async def _request_approval(self, pending: PendingToolCall) -> None:
        expires_at, of = now() + self._dependencies.settings.approvals_last, self._execution.id
        requested = events.ApprovalRequested(**to_event_call(pending).model_dump(), of=of, expires_at=expires_at)
        self._journal.note(requested, also_to_ancestors=True)
        await self._journal.wait(lambda: [self._ask(pending, ApprovalKind.approval, expires_at)])

    async def _request_results(self, calls: Sequence[PendingToolCall]) -> None:
        """Asks the client for the results of its tools, which the end of the wait adds to the log."""
        asked = [self._history.approvals[pending.id] for pending in calls if pending.id in self._history.approvals]
        if any(approval.status is ApprovalStatus.pending for approval in asked):
            await self._journal.wait()
        elif asked:  # a server of version 0.1 took them for approvals
            self._refuse(calls[0], "The client gave no result.")
        else:
            expires_at = now() + self._dependencies.settings.approvals_last
            for pending in calls:
                self._journal.note(events.ResultRequested(**to_event_call(pending).model_dump(), expires_at=expires_at))
            await self._journal.wait(
                lambda: [self._ask(pending, ApprovalKind.client_tool, expires_at) for pending in calls]
            )

    def _ask(self, pending: PendingToolCall, kind: ApprovalKind, expires_at: datetime) -> Approval:
        return Approval(
            execution_id=self._execution.id,
            tool_call_id=pending.id,
            kind=kind,
            tool=pending.call.name,
            arguments=pending.call.arguments,
            status=ApprovalStatus.pending,
            expires_at=expires_at,
        )

    async def _call(self, pending: PendingToolCall) -> None:
        execution = self._execution
        called_before = self._history.called.get(pending.id)
        id = called_before or self._journal.note(events.ToolCalled(**to_event_call(pending).model_dump()))
        await self._journal.commit()
        context = ToolContext(
            execution.user_id,
            execution.id,
            idempotency_key=f"{execution.id}:{pending.id}",
            database=self._dependencies.database,
            workers=self._dependencies.workers,
            row_id=id,
        )
        name = pending.call.name
        try:
            with traced("tool", tool=name):
                content = await self._dependencies.toolbox.call(name, context, pending.call.arguments)
        except ToolError as error:
            self._refuse(pending, str(error))
        else:
            returned = ToolResult(pending.call.id, name, content)
            self._transcript.add(returned)
            self._journal.note(events.ToolReturned(tool_call_id=pending.id, name=name, content=content), returned)

    def _refuse(self, pending: PendingToolCall, sentence: str) -> None:
        """Gives the model the reason as the result, so that it can go on."""
        returned = ToolResult(pending.call.id, pending.call.name, sentence)
        self._transcript.add(returned)
        self._journal.note(events.ToolFailed(tool_call_id=pending.id, name=returned.name, detail=sentence), returned)

    async def _delegate(self, pending: PendingToolCall, subagent: GrantedSubagent) -> None:
        """Queues an execution of the subagent, at whose end this one goes on."""
        try:
            task = _task(pending.call.arguments)
            runs_with = await self._configuration_of(subagent)
        except ToolError as error:
            self._refuse(pending, str(error))
            return
        execution, id = self._execution, uuid7()
        self._journal.note(events.SubagentStarted(tool_call_id=pending.id, name=subagent.name, execution=id))

        def child() -> list[Execution]:
            return [
                Execution(
                    id=id,
                    user_id=execution.user_id,
                    agent_id=subagent.id,
                    parent_id=execution.id,
                    parent_call_id=pending.id,
                    message_id=execution.message_id,
                    status=ExecutionStatus.queued,
                    input=task,
                    configuration=runs_with.model_dump(mode="json"),
                )
            ]

        await self._journal.wait(child)

    async def _configuration_of(self, subagent: GrantedSubagent) -> Configuration:
        """Returns what the subagent runs with. Raises ToolError when it must not, or cannot, be asked."""
        lineage = [*self._configuration.lineage, self._execution.agent_id]
        if len(lineage) > self._dependencies.settings.max_subagent_depth:
            raise ToolError("Subagents are nested too deeply: do the task without this one.")
        if subagent.id in lineage:
            raise ToolError("This agent is itself waiting for your result: do the task without it.")
        limits = subagent_limits(self._configuration.limits, self._journal.used)
        try:
            async with self._dependencies.database.read() as session:
                return await load_configuration(session, self._execution.user_id, subagent.id, limits, lineage)
        except NotFound:
            raise ToolError("This agent was deleted.") from None


def to_event_call(pending: PendingToolCall) -> events.Call:
    call = pending.call
    return events.Call(tool_call_id=pending.id, name=call.name, arguments=call.arguments)


def _task(arguments: str) -> str:
    """Returns the task from the arguments that the model wrote. Raises ToolError."""
    try:
        task = _Delegation.model_validate_json(arguments).task
    except ValidationError:
        raise ToolError('The arguments are refused: give {"task": "what to do"}.') from None
    if not task.strip():
        raise ToolError("The arguments are refused: the task is blank.")
    return task
