"""Lets agents answer what a client brings: each answer is an execution, whose context holds the history."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.errors import Invalid, MissingScope, NotFound
from app.core.security import fingerprint
from app.models.agent import Agent
from app.models.execution import ApprovalStatus, Execution, ExecutionStatus
from app.repositories.agent import AgentRepository
from app.repositories.execution import ExecutionRepository
from app.repositories.idempotency_key import IdempotencyRepository
from app.repositories.principal import Scopes
from app.schemas.client_tool import ToolResultCreate, ToolResultsCreate
from app.schemas.execution import Configuration
from app.services.agents.client_calls import ClientCalls
from app.services.agents.configuration import load_configuration, with_client_tools
from app.services.agents.executions import check_room
from app.services.agents.replies import ReplyDependencies
from app.services.agents.starting import ExecutionStarter
from app.services.agents.stream import ExecutionStream
from app.services.agents.structured_output import OutputChecker
from app.services.agents.transcript import to_entry
from app.services.ai import ChatMessage, ToolResult, UserMessage
from app.services.chat.limits import ChatLimits
from app.services.completions.agent_completion import AgentCompletion
from app.services.completions.base import (
    AGENT,
    CompletionRequest,
    ListedModel,
    ModelNotFound,
    UnsupportedParameter,
)

MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class AgentCompletionDependencies:
    """Holds what the answers of all people's agents need."""

    replies: ReplyDependencies
    chat_limits: ChatLimits
    output: OutputChecker


class AgentCompletions:
    """Answers one person's requests. Locks are taken in the order user, execution."""

    def __init__(
        self, dependencies: AgentCompletionDependencies, stream: ExecutionStream, user_id: UUID, scopes: Scopes
    ) -> None:
        self._dependencies = dependencies
        self._needs = dependencies.replies
        self._stream = stream
        self._user_id = user_id
        self._may_act = scopes is None or "agents" in scopes
        self._may_read = self._may_act or (scopes is not None and "read" in scopes)

    async def list_models(self) -> Sequence[ListedModel]:
        """Returns the person's newest agents, as models; nothing for a caller who may not read agents."""
        if not self._may_read:
            return []
        async with self._needs.database.read() as session:
            page = await AgentRepository(session, self._user_id).list(MAX_LISTED)
        return list(map(_to_model, page.items))

    async def find_model(self, id: str) -> ListedModel:
        """Returns an agent of the person. Raises ModelNotFound, MissingScope."""
        agent_id = _read_agent_id(id, may=self._may_read)
        try:
            async with self._needs.database.read() as session:
                return _to_model(await AgentRepository(session, self._user_id).get(agent_id))
        except NotFound:
            raise ModelNotFound(id) from None

    async def begin(self, request: CompletionRequest, key: str | None) -> AgentCompletion:
        """Begins an execution, or gives one the results of functions for which it waits.

        Raises ModelNotFound, UnsupportedParameter, Invalid, MissingScope, Conflict, and what limits raise.
        """
        agent_id = _read_agent_id(request.model, may=self._may_act)
        await self._check(request)
        async with self._needs.database.write(self._user_id) as session:
            executions = ExecutionRepository(session, self._user_id)
            await executions.lock_owner(exclusive=True)  # or two requests at once would not count each other
            given = _given(request.messages)
            found_id = await executions.find_of_client_calls(agent_id, given) if given else None
            id = found_id or uuid7()
            if key:
                keys = IdempotencyRepository(session, self._user_id)
                first_id = await keys.claim(key, fingerprint(f"completion {request!r}"), id)
                if first_id != id:
                    return self._follow(await executions.get(first_id), given, is_kept=True)
            if found_id is not None:
                execution = await self._give_results(session, executions, found_id, request.messages)
                start = partial(self._needs.notifier.notify, execution.id)
            else:
                await self._dependencies.chat_limits.send(self._user_id)
                runs_with = await self._configure(session, agent_id, request)
                execution = self._to_execution(id, agent_id, request, runs_with)
                starter = ExecutionStarter(self._needs.settings, self._needs.runner, self._needs.process_id)
                start = await starter.start(session, executions, execution, runs_with)
        start()
        return self._follow(execution, given, is_kept=key is not None)

    def _follow(self, execution: Execution, given: Collection[str], *, is_kept: bool) -> AgentCompletion:
        """Returns the answer: what comes after the results that the request has brought, if it has."""
        return AgentCompletion(self._needs, self._stream, execution, _own(execution, given), is_kept=is_kept)

    async def _check(self, request: CompletionRequest) -> None:
        """Raises UnsupportedParameter, Invalid."""
        if request.tool_choice not in {"auto", "none"}:
            raise UnsupportedParameter("tool_choice", "An agent decides itself which tools it calls.")
        if len(_input(request.messages)) > (most := self._needs.settings.execution_input_max_characters):
            raise Invalid(f"An input has at most {most} characters.")
        if request.output_schema is not None:
            await self._dependencies.output.check_schema(request.output_schema)

    def _to_execution(
        self, id: UUID, agent_id: UUID, request: CompletionRequest, runs_with: Configuration
    ) -> Execution:
        return Execution(
            id=id,
            user_id=self._user_id,
            agent_id=agent_id,
            status=ExecutionStatus.queued,
            input=_input(request.messages),
            configuration=runs_with.model_dump(mode="json"),
            context=list(map(to_entry, _context(request.messages))),
            last_sequence=0,
        )

    async def _configure(self, session: AsyncSession, agent_id: UUID, request: CompletionRequest) -> Configuration:
        """Returns what the execution runs with: the agent, and what the request asks for beside it."""
        try:
            agent = await load_configuration(session, self._user_id, agent_id, self._needs.settings.limits)
        except NotFound:
            raise ModelNotFound(request.model) from None
        self._needs.ai.check(agent.model_name)
        asked = {
            "temperature": request.temperature,
            "reasoning_effort": request.reasoning_effort,
            "output_schema": request.output_schema,
            "max_output_tokens": request.max_output_tokens,
            "instructions": "\n\n".join(filter(None, (agent.instructions, request.instructions))),
            "sampling": request.sampling,
        }
        runs_with = agent.model_copy(update={name: value for name, value in asked.items() if value is not None})
        if request.tool_choice == "none":
            return runs_with.model_copy(update={"tools": [], "subagents": []})
        return with_client_tools(runs_with, request.tools)

    async def _give_results(
        self, session: AsyncSession, executions: ExecutionRepository, id: UUID, messages: Sequence[ChatMessage]
    ) -> Execution:
        """Gives the results, unless an earlier try has done so. Raises Invalid, CallClosed, TooManyExecutions."""
        [execution] = await executions.lock_with_ancestors(id)
        asked = {call.tool_call_id: call.status for call in await executions.approvals(execution)}
        if unknown := _own(execution, _given(messages)) - asked.keys():
            raise Invalid(f"The agent has made no call {min(unknown)}.")
        results = [
            ToolResultCreate.model_construct(tool_call_id=message.call_id, content=message.content)
            for message in _results(messages)
            if asked.get(message.call_id) is ApprovalStatus.pending
        ]
        if results:
            await check_room(executions, self._needs.settings)  # while it waited, it took none
            calls = ClientCalls(session, executions, execution)
            given = ToolResultsCreate.model_construct(results=results)  # the protocol has limits of its own
            await calls.give_results(given, self._needs.toolbox.shorten)
        return execution


def _read_agent_id(model: str, *, may: bool) -> UUID:
    if not may:
        raise MissingScope("This needs an API key with the scope agents as well.")
    try:
        return UUID(model.removeprefix(AGENT))
    except ValueError:
        raise ModelNotFound(model) from None


def _to_model(agent: Agent) -> ListedModel:
    return ListedModel(f"{AGENT}{agent.id}", agent.name, "user", agent.created_at)


def _results(messages: Sequence[ChatMessage]) -> Sequence[ToolResult]:
    """Returns the results with which the messages end."""
    found: list[ToolResult] = []
    for message in reversed(messages):
        if not isinstance(message, ToolResult):
            break
        found.append(message)
    return found


def _given(messages: Sequence[ChatMessage]) -> Collection[str]:
    return {message.call_id for message in _results(messages)}


def _own(execution: Execution, call_ids: Collection[str]) -> set[str]:
    """Returns those of the ids that are written as those of the execution's calls."""
    return {id for id in call_ids if id.startswith(f"call_{execution.id.hex[-12:]}_")}


def _input(messages: Sequence[ChatMessage]) -> str:
    last = messages[-1]
    return last.text if isinstance(last, UserMessage) else ""


def _context(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Returns the history before the input, whose pictures stay in it."""
    last = messages[-1]
    if not isinstance(last, UserMessage):
        return messages
    return [*messages[:-1], replace(last, text="")] if last.images else messages[:-1]
