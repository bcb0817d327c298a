"""Defines the frames that clients send through the WebSocket of the chat."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StrictInt

from app.models.idempotency_key import KEY_CHARACTERS
from app.schemas.base import Text
from app.schemas.client_tool import ToolResultsCreate
from app.schemas.message import ApprovalAnswer, MessageCreate, RegenerateCreate
from app.schemas.websocket import Auth, Frame, Ping

Key = Annotated[Text, Field(min_length=1, max_length=KEY_CHARACTERS)]


class Send(Frame, MessageCreate):
    type: Literal["send"]
    idempotency_key: Key | None = None


class Regenerate(Frame, RegenerateCreate):
    type: Literal["regenerate"]
    reply_id: UUID
    idempotency_key: Key | None = None


class Answer(Frame, ApprovalAnswer):
    type: Literal["answer"]
    reply_id: UUID


class ToolResults(Frame, ToolResultsCreate):
    type: Literal["tool_results"]
    reply_id: UUID


class Stop(Frame):
    type: Literal["stop"]
    reply_id: UUID


class Resume(Frame):
    type: Literal["resume"]
    reply_id: UUID
    offset: StrictInt | Annotated[Text, Field(max_length=100)] | None = None
    """Gives the offset of the last event that arrived; without it all events are sent again."""


ClientFrame = Annotated[
    Send | Regenerate | Answer | ToolResults | Stop | Resume | Auth | Ping, Field(discriminator="type")
]
