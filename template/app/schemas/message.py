from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from app.models.message import MessageStatus, Rating, Role
from app.schemas.base import Body, Money, Read, Text, Words

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

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if self.parent_id is not None and self.replaces is not None:
            raise ValueError("name the message to follow, or the one to replace, not both")
        return self


class RegenerateCreate(Body):
    model: ModelName | None = None
    """Names one of the models that `/info` lists. The first of them is the default."""


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


class BranchMessageRead(MessageRead):
    """Represents a message in its branch of the conversation."""

    parts: list[TextPart]
    """Holds what the message consists of; `content` is the text of all parts that are text."""
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
ChatEvent = MessageCreated | MessageDelta | ReplyEnd
