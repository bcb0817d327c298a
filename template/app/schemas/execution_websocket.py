"""Defines the frames that clients send through the WebSockets of agents and executions."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.models.idempotency_key import KEY_CHARACTERS
from app.schemas.base import Text
from app.schemas.execution import ExecutionCreate
from app.schemas.message import ApprovalAnswer
from app.schemas.websocket import Auth, Frame, Ping

Sequence = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Send(Frame, ExecutionCreate):
    type: Literal["send"]
    idempotency_key: Annotated[Text, Field(min_length=1, max_length=KEY_CHARACTERS)] | None = None


class Stop(Frame):
    type: Literal["stop"]
    execution_id: UUID


class Resume(Frame):
    type: Literal["resume"]
    execution_id: UUID
    sequence: Sequence = 0
    """Gives the sequence of the last event that arrived; without it all events are sent again."""


class Answer(Frame, ApprovalAnswer):
    type: Literal["answer"]
    execution_id: UUID


AgentFrame = Annotated[Send | Stop | Resume | Answer | Auth | Ping, Field(discriminator="type")]
ExecutionFrame = Annotated[Stop | Resume | Answer | Auth | Ping, Field(discriminator="type")]
