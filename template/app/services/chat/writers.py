"""Defines who writes pending replies: a model, or what another feature brings, such as agents."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.reasoning import ReasoningEffort
from app.models.message import Message
from app.repositories.conversation import Branch
from app.schemas.client_tool import ClientTool, ToolResultsCreate
from app.schemas.message import ApprovalAnswer, MessageRead, ToolCallPart
from app.services.chat.stream import Progress, Reply


@dataclass(frozen=True, slots=True)
class Turn:
    """Holds a message and the pending reply to it, which are about to be stored, and what the reply is asked of."""

    branch: Branch
    """Ends before the message."""
    message: Message
    reply: Message
    agent_id: UUID | None
    model: str | None
    reasoning_effort: ReasoningEffort | None
    tools: Sequence[ClientTool]
    """Lists the tools that the client runs."""
    summary: str | None
    """Sums up what comes before a message that is answered again, if a model has done so."""


@dataclass(frozen=True, slots=True)
class Written:
    """Holds what there is of a pending reply."""

    content: str
    parts: Sequence[Mapping[str, Any]]

    def add_to(self, message: MessageRead) -> MessageRead:
        return MessageRead.model_validate({**dict(message), "content": self.content, "parts": self.parts})


@dataclass(frozen=True, slots=True)
class Pause:
    """Describes where a reply has waited for a person or the client."""

    place: str
    """Identifies the event by which it asked."""
    calls: Sequence[ToolCallPart]
    """Holds the tool calls up to there, as they were then."""


class ReplyWriter(Protocol):
    """Writes replies to one person's messages."""

    async def begin(self, session: AsyncSession, turn: Turn) -> Callable[[], None]:
        """Stores what the reply needs, in the transaction that stores the turn; returns what starts it after that.

        Raises Invalid, NotFound, and what its limits raise.
        """
        ...

    def follow(self, reply: Reply, after: str | None) -> AsyncGenerator[Progress]:
        """Returns the events after the one with this id, or all of them, until the reply ends. Raises Invalid."""
        ...

    async def wait(self, reply: Reply) -> MessageRead:
        """Returns the reply once it has ended, or waits for a person."""
        ...

    async def stop(self, session: AsyncSession, reply: Message) -> Callable[[], None]:
        """Requests that a pending reply ends with the text that it has; returns what to call after the transaction."""
        ...

    async def read_written(self, session: AsyncSession, reply_ids: Collection[UUID]) -> Mapping[UUID, Written]:
        """Returns what there is of pending replies whose rows do not have it."""
        ...


class AgentWriter(ReplyWriter, Protocol):
    """Writes replies of agents, where the service has any."""

    async def check(self, session: AsyncSession, agent_id: UUID) -> None:
        """Raises NotFound if the person has no such agent."""
        ...

    async def find(self, name: str) -> UUID:
        """Returns the person's agent with this name or id. Raises SetupError."""
        ...

    def run_here(self) -> AbstractAsyncContextManager[None]:
        """Runs what the person's agents have to do in this process, while the block lasts; for commands."""
        ...

    async def answer(self, reply_id: UUID, data: ApprovalAnswer) -> None:
        """Approves or denies a tool call that waits for it. Raises NotFound, Conflict."""
        ...

    async def give_results(self, reply_id: UUID, data: ToolResultsCreate) -> None:
        """Gives the results of the client's own tools. Raises Invalid, NotFound, Conflict."""
        ...

    async def find_pause(self, reply_id: UUID, tool_call_ids: Collection[str]) -> Pause | None:
        """Returns where the last of these calls asked a person or the client; None if none did.

        A client that knows these calls knows the reply up to there.
        """
        ...

    async def client_tools(self, reply_id: UUID) -> Collection[str]:
        """Returns the names of the tools that the client runs for a reply."""
        ...

    async def forget(self, session: AsyncSession, conversation_id: UUID) -> None:
        """Deletes what it keeps of a locked conversation, which is about to be deleted."""
        ...
