"""Lets agents write replies of conversations: each reply is an execution, begun in this process if there is room."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.commands import full_command
from app.core.database import Database
from app.core.errors import MissingScope, NotFound, SetupError
from app.models.execution import Execution, ExecutionStatus
from app.models.message import Message
from app.repositories.agent import AgentRepository
from app.repositories.conversation import ConversationRepository
from app.repositories.execution import ExecutionRepository
from app.repositories.execution_queue import RunRepository
from app.schemas.client_tool import ToolResultsCreate
from app.schemas.execution import Configuration
from app.schemas.message import ApprovalAnswer, MessageRead, ToolCallPart
from app.schemas.reply_event import ApprovalRequested, ResultRequested
from app.services.agents.approvals import Approvals
from app.services.agents.cancellation import cancel
from app.services.agents.client_calls import ClientCalls
from app.services.agents.configuration import client_tool_names, load_configuration, tool_specs, with_client_tools
from app.services.agents.history import Entries, Memory
from app.services.agents.notifier import ExecutionNotifier
from app.services.agents.reply_parts import ReplyParts
from app.services.agents.reply_stream import AgentReplyStream, parse_place
from app.services.agents.runner import ExecutionRunner
from app.services.agents.settings import ExecutionSettings
from app.services.agents.starting import ExecutionStarter
from app.services.agents.toolbox import Toolbox
from app.services.ai import ModelGateway, estimate_tokens
from app.services.chat.history import since_summary
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import REPLY_ENDS, Progress, Reply
from app.services.chat.writers import Pause, Turn, Written

ASKS = {"approval.requested", "result.requested"}
"""Names the events by which a call asks a person, or the client."""


@dataclass(slots=True)
class ReplyDependencies:
    """Holds what the replies of all people need."""

    settings: ExecutionSettings
    chat_settings: ChatSettings
    database: Database
    ai: ModelGateway
    notifier: ExecutionNotifier
    toolbox: Toolbox
    process_id: UUID
    runner: ExecutionRunner | None = None
    """Runs executions in this process, if any are run here."""
    open_worker: Callable[[UUID], AbstractAsyncContextManager[None]] | None = None
    """Runs the jobs of one person in this process, for commands."""


class AgentReplies:
    """Writes replies to one person's messages. Locks are taken in the order user, conversation, execution, message."""

    def __init__(
        self, dependencies: ReplyDependencies, stream: AgentReplyStream, user_id: UUID, *, may_act: bool = True
    ) -> None:
        """Takes whether the caller may let agents act, as an API key needs their scope for it."""
        self._dependencies = dependencies
        self._stream = stream
        self._user_id = user_id
        self._may_act = may_act

    async def check(self, session: AsyncSession, agent_id: UUID) -> None:
        """Raises NotFound if the person has no such agent, and MissingScope."""
        self._check_scope()
        await AgentRepository(session, self._user_id).get(agent_id)

    async def find(self, name: str) -> UUID:
        """Returns the person's agent with this name or id. Raises SetupError."""
        async with self._dependencies.database.read() as session:
            agents = AgentRepository(session, self._user_id)
            with suppress(ValueError):
                if found := await agents.find(UUID(name)):
                    return found.id
            called = await agents.list_called(name, 2)
        if len(called) == 1:
            return called[0].id
        advice = "Several agents have" if called else "There is no agent with"
        raise SetupError(f"{advice} the name {name}: {full_command('agents list')} shows the ids.")

    def run_here(self) -> AbstractAsyncContextManager[None]:
        """Runs what the person's agents have to do in this process, while the block lasts; for commands."""
        open_worker = self._dependencies.open_worker
        return nullcontext() if open_worker is None else open_worker(self._user_id)

    async def begin(self, session: AsyncSession, turn: Turn) -> Callable[[], None]:
        """Stores the execution that writes the reply: as claimed by this process, else in the queue.

        Raises NotFound, Invalid, MissingScope, TooManyExecutions.
        """
        self._check_scope()
        needs, executions = self._dependencies, ExecutionRepository(session, self._user_id)
        await executions.lock_owner(exclusive=True)  # or two requests at once would not count each other
        runs_with = await self._configure(session, turn)
        execution = Execution(
            id=uuid7(),
            user_id=self._user_id,
            agent_id=turn.agent_id,
            message_id=turn.reply.id,
            status=ExecutionStatus.queued,
            input=turn.message.content,
            configuration=runs_with.model_dump(mode="json"),
            context=await self._recall(session, turn, runs_with),
            last_sequence=0,
        )
        turn.reply.agent_id, turn.reply.execution_id = turn.agent_id, execution.id
        starter = ExecutionStarter(needs.settings, needs.runner, needs.process_id)
        return await starter.start(session, executions, execution, runs_with)

    def follow(self, reply: Reply, after: str | None) -> AsyncGenerator[Progress]:
        """Returns the events after this place, or all of them. Raises Invalid."""
        runner, id = self._dependencies.runner, reply.message.execution_id
        run_id = None if runner is None or id is None else runner.find_run(id)
        return self._stream.follow(reply, parse_place(after), run_id)

    async def wait(self, reply: Reply) -> MessageRead:
        """Returns the reply once it has ended, or as far as it is when it waits for an approval or for the client."""
        async with aclosing(self.follow(reply, None)) as progress:
            async for step in progress:
                if isinstance(step.event, REPLY_ENDS):
                    return step.event.message
                if isinstance(step.event, ApprovalRequested | ResultRequested) and await self._waits(reply.message.id):
                    break
        return await self._read(reply.message)

    async def stop(self, session: AsyncSession, reply: Message) -> Callable[[], None]:
        """Asks the run of the execution to end, and ends it here when nobody runs it. Raises NotFound."""
        needs, executions = self._dependencies, ExecutionRepository(session, self._user_id)
        if reply.execution_id is None:
            raise NotFound("Reply", reply.id)
        [execution] = await executions.lock_with_ancestors(reply.execution_id)
        run_id = execution.run_id
        if run_id and not await RunRepository(session).is_of_dead(execution, needs.process_id):
            execution.stop_requested = True
        else:
            await cancel(session, executions, execution, needs.chat_settings.history_max_tokens)
        return partial(self._wake, run_id, execution.id)

    async def answer(self, reply_id: UUID, data: ApprovalAnswer) -> None:
        """Approves or denies a tool call that waits for it. Raises NotFound, ApprovalClosed, MissingScope."""
        self._check_scope()
        async with self._dependencies.database.write(self._user_id) as session:
            execution_id = await ExecutionRepository(session, self._user_id).find_of_call(reply_id, data.tool_call_id)
            if execution_id is None:
                raise NotFound("Tool call", data.tool_call_id)
            chain = await Approvals(session, self._user_id).answer(execution_id, data)
        self._dependencies.notifier.notify(*(execution.id for execution in chain))

    async def give_results(self, reply_id: UUID, data: ToolResultsCreate) -> None:
        """Gives the results of the client's own tools. Raises Invalid, NotFound, CallClosed, MissingScope."""
        self._check_scope()
        async with self._dependencies.database.write(self._user_id) as session:
            executions = ExecutionRepository(session, self._user_id)
            execution_id = await executions.find_of_reply(reply_id)
            if execution_id is None:
                raise NotFound("Reply", reply_id)
            [execution] = await executions.lock_with_ancestors(execution_id)
            await ClientCalls(session, executions, execution).give_results(data, self._dependencies.toolbox.shorten)
        self._dependencies.notifier.notify(execution_id)

    async def read_written(self, session: AsyncSession, reply_ids: Collection[UUID]) -> Mapping[UUID, Written]:
        """Returns what there is of pending replies, from the events of their executions."""
        found = await ExecutionRepository(session, self._user_id).happened(reply_ids)
        written: dict[UUID, Written] = {}
        for id in reply_ids:
            parts = ReplyParts(id, found.get(id, ()))
            written[id] = Written(parts.content, parts.parts)
        return written

    async def find_pause(self, reply_id: UUID, tool_call_ids: Collection[str]) -> Pause | None:
        """Returns where the last of these calls asked a person or the client; None if none did."""
        async with self._dependencies.database.read() as session:
            happened = (await ExecutionRepository(session, self._user_id).happened([reply_id])).get(reply_id, ())
        parts, found = ReplyParts(reply_id), None
        for type, data in happened:
            for each in parts.add(type, data):
                if type in ASKS and data["tool_call_id"] in tool_call_ids:
                    found = Pause(str(each.place), _calls(parts))
        return found

    async def client_tools(self, reply_id: UUID) -> Collection[str]:
        async with self._dependencies.database.read() as session:
            executions = ExecutionRepository(session, self._user_id)
            id = await executions.find_of_reply(reply_id)
            return () if id is None else client_tool_names(await executions.get(id))

    async def forget(self, session: AsyncSession, conversation_id: UUID) -> None:
        """Deletes the executions of a conversation, whose runs then end."""
        await ExecutionRepository(session, self._user_id).delete_of_conversation(conversation_id)

    def _check_scope(self) -> None:
        if not self._may_act:
            raise MissingScope("This needs an API key with the scope agents as well.")

    async def _configure(self, session: AsyncSession, turn: Turn) -> Configuration:
        """Returns what the execution runs with. Raises NotFound, Invalid."""
        if turn.agent_id is None:
            raise AssertionError("a turn without an agent is a model's")
        limits = self._dependencies.settings.limits
        runs_with = await load_configuration(session, self._user_id, turn.agent_id, limits)
        asked = {"model_name": turn.model, "reasoning_effort": turn.reasoning_effort}
        runs_with = runs_with.model_copy(update={name: value for name, value in asked.items() if value is not None})
        self._dependencies.ai.check(runs_with.model_name)
        return with_client_tools(runs_with, turn.tools)

    async def _recall(self, session: AsyncSession, turn: Turn, runs_with: Configuration) -> Entries:
        """Returns the history that the execution keeps, so that its runs read nothing of the conversation."""
        most = self._dependencies.chat_settings.history_max_tokens
        newest, summary = since_summary(most, turn.branch.newest, turn.summary)
        if turn.agent_id is None or not (newest or summary):
            return []
        tools = {tool.name for tool in tool_specs(runs_with)}
        memory = Memory(turn.agent_id, runs_with.model_name, tools, most - estimate_tokens(summary))
        ids = memory.choose(newest)
        entries: Mapping[UUID, Entries] = {}
        if ids:
            entries = await ConversationRepository(session, self._user_id).entries(ids)
        return memory.recall(newest, entries, summary)

    async def _waits(self, reply_id: UUID) -> bool:
        async with self._dependencies.database.read() as session:
            return await ExecutionRepository(session, self._user_id).waits_for_approval(reply_id)

    async def _read(self, message: MessageRead) -> MessageRead:
        async with self._dependencies.database.read() as session:
            return (await self.read_written(session, [message.id]))[message.id].add_to(message)

    def _wake(self, run_id: UUID | None, execution_id: UUID) -> None:
        if self._dependencies.runner is not None:
            self._dependencies.runner.stop(run_id)
        self._dependencies.notifier.notify(execution_id)


def _calls(reply: ReplyParts) -> Sequence[ToolCallPart]:
    return [ToolCallPart.model_validate(part) for part in reply.parts if part["type"] == "tool_call"]
