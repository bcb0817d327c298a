from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.models.message import MessageStatus, Role
from app.schemas.base import Body, Read, Words


class MessageCreate(Body):
    content: Annotated[Words, Field(min_length=1)]
    conversation_id: UUID | None = None
    """Without it a new conversation begins."""


class MessageRead(Read):
    id: UUID
    conversation_id: UUID
    role: Role
    content: str
    status: MessageStatus
    created_at: datetime


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


class MessageInterrupted(Read):
    type: Literal["message.interrupted"] = "message.interrupted"
    message: MessageRead


class MessageFailed(Read):
    type: Literal["message.failed"] = "message.failed"
    message: MessageRead
    code: str
    detail: str


ReplyEnd = Annotated[MessageCompleted | MessageInterrupted | MessageFailed, Field(discriminator="type")]
ChatEvent = MessageCreated | MessageDelta | ReplyEnd
