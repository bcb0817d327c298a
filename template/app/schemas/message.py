from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from app.core.reasoning import ReasoningEffort
from app.models.message import MessageStatus, Rating, Role
from app.schemas.base import Body, Money, Read, Text, Words
from app.schemas.client_tool import ClientTools
from app.schemas.reply_event import AgentEvent

ModelName = Annotated[Text, Field(min_length=1, max_length=200)]


class MessageCreate(Body):
    content: Annotated[Words, Field(min_length=1)]
    conversation_id: UUID | None = None
    """Continues this conversation; without it a new one begins."""
    model: ModelName | None = None
    """Names one of the models that `/info` lists. The first of them is the default."""
    parent_id: UUID | None = None
    """Follows this reply; without it the last one of the branch that is shown."""
    replaces: UUID | None = None
    """Begins another branch in place of this message of the user, which is kept in its own branch."""

    agent_id: UUID | None = None
    """Asks this agent, or with null none; left out, the one of the conversation, which begins with the first one."""
    tools: ClientTools = Field(default=[])
    """Lets the agent call tools that the client runs, for this reply."""
    reasoning_effort: ReasoningEffort | None = None
    """Says how much the model reasons; without it, as the agent says, or else as the provider does by itself."""

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if self.parent_id is not None and self.replaces is not None:
            raise ValueError("name the message to follow, or the one to replace, not both")
        return self


class RegenerateCreate(Body):
    model: ModelName | None = None
    """Names one of the models that `/info` lists. The first of them is the default."""
    agent_id: UUID | None = None
    """Asks this agent, or with null none; left out, whoever wrote the reply."""
    tools: ClientTools = Field(default=[])
    """Lets the agent call tools that the client runs, for this reply."""
    reasoning_effort: ReasoningEffort | None = None
    """Says how much the model reasons; without it, as the agent says, or else as the provider does by itself."""


class ApprovalAnswer(Body):
    tool_call_id: Annotated[Text, Field(max_length=32)]
    approved: bool
    note: Annotated[Words, Field(max_length=2000)] | None = None
    """Tells the model why the call was denied."""


class FeedbackUpdate(Body):
    rating: Rating
    comment: Annotated[Words, Field(max_length=2000)] | None = None


class UsageRead(Read):
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cost: Money | None
    """Holds US dollars; null where the price is not known."""


class FeedbackRead(Read):
    rating: Rating
    comment: str | None


class TextPart(Read):
    type: Literal["text"] = "text"
    text: str


class ReasoningPart(Read):
    """Holds what a model shows of its reasoning, which is no part of the text."""

    type: Literal["reasoning"] = "reasoning"
    text: str


class DataPart(Read):
    """Holds the answer of an agent with an output schema, which fits that."""

    type: Literal["data"] = "data"
    data: dict[str, Any]


class ToolCallState(StrEnum):
    called = "called"
    approval_requested = "approval_requested"
    result_requested = "result_requested"
    """Waits for the client, which runs this tool."""
    returned = "returned"
    failed = "failed"
    denied = "denied"


class ToolCallPart(Read):
    type: Literal["tool_call"] = "tool_call"
    tool_call_id: str
    """Identifies the call within the conversation."""
    name: str
    arguments: str
    """Holds JSON, unless the model made a mistake."""
    state: ToolCallState
    result: str | None
    """Holds what the tool returned, or a sentence that says why it did not."""
    expires_at: datetime | None
    """Tells until when the call can be approved, or its result be given, while it waits for that."""
    execution_id: UUID | None
    """Identifies the subagent's execution that this call has begun, or that makes this call."""


Part = Annotated[TextPart | ReasoningPart | DataPart | ToolCallPart, Field(discriminator="type")]


class MessageRead(Read):
    id: UUID
    conversation_id: UUID
    role: Role
    content: str
    status: MessageStatus
    created_at: datetime
    code: str | None = None
    """Names the reason why a reply failed or was cut short."""
    usage: UsageRead | None = None
    feedback: FeedbackRead | None = None
    parts: list[Part] = Field(default=[])
    """Holds what the message consists of; `content` is their text, and the JSON of data."""
    agent_id: UUID | None = None
    """Identifies the agent that answers."""
    execution_id: UUID | None = None
    """Identifies the execution in which the agent writes this reply."""


class BranchMessageRead(MessageRead):
    """Represents a message in its branch of the conversation."""

    parent_id: UUID | None
    """Identifies the message that it follows; null for a first message."""
    siblings: list[UUID]
    """Lists all messages that follow the same one, itself included, oldest first: its alternatives."""


class MessageCreated(Read):
    type: Literal["message.created"] = "message.created"
    conversation_id: UUID
    user_message: MessageRead
    reply_id: UUID


class MessageDelta(Read):
    type: Literal["message.delta"] = "message.delta"
    reply_id: UUID
    text: str
    part: int = 0
    """Counts the parts of the reply that come before the one that grows."""


class MessageCompleted(Read):
    type: Literal["message.completed"] = "message.completed"
    message: MessageRead


class MessageStopped(Read):
    type: Literal["message.stopped"] = "message.stopped"
    message: MessageRead


class MessageInterrupted(Read):
    type: Literal["message.interrupted"] = "message.interrupted"
    message: MessageRead


class MessageFailed(Read):
    type: Literal["message.failed"] = "message.failed"
    message: MessageRead
    code: str
    detail: str


ReplyEnd = Annotated[
    MessageCompleted | MessageStopped | MessageInterrupted | MessageFailed, Field(discriminator="type")
]
ChatEvent = MessageCreated | MessageDelta | AgentEvent | ReplyEnd
