"""Defines the events of an execution as they are streamed to clients. Their `type` tells them apart."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.models.execution import ExecutionStatus
from app.schemas.base import Read
from app.schemas.execution import ExecutionUsage


class Call(Read):
    """Describes a tool call as the model wrote it."""

    tool_call_id: str
    name: str
    arguments: str
    """Holds JSON, unless the model made a mistake."""


class Happened(Read):
    sequence: int = 0
    """Counts 1, 2, 3 … within the execution. A delta has the sequence of the `model.started` that it belongs to."""
    at: datetime | None = None
    execution_id: UUID | None = None


class ExecutionStarted(Happened):
    type: Literal["execution.started"] = "execution.started"


class ModelStarted(Happened):
    type: Literal["model.started"] = "model.started"
    model: str


class ModelDelta(Happened):
    """Carries a piece of the model's text, live. It is not stored, since `model.completed` has all of the text."""

    type: Literal["model.delta"] = "model.delta"
    text: str


class ModelCompleted(Happened):
    type: Literal["model.completed"] = "model.completed"
    model: str
    text: str
    calls: list[Call]
    input_tokens: int
    output_tokens: int
    code: str | None = None
    """Names the reason why the answer was cut short, if it was."""


class ToolCalled(Happened, Call):
    type: Literal["tool.called"] = "tool.called"


class ToolReturned(Happened):
    type: Literal["tool.returned"] = "tool.returned"
    tool_call_id: str
    name: str
    content: str


class ToolFailed(Happened):
    type: Literal["tool.failed"] = "tool.failed"
    tool_call_id: str
    name: str
    detail: str


class ApprovalRequested(Happened, Call):
    """Asks a person to approve a tool call. Answer it at the execution `of`, which may be that of a subagent."""

    type: Literal["approval.requested"] = "approval.requested"
    of: UUID
    expires_at: datetime


class ApprovalAnswered(Happened):
    type: Literal["approval.answered"] = "approval.answered"
    of: UUID
    tool_call_id: str
    approved: bool
    expired: bool = False
    note: str | None = None


class SubagentStarted(Happened):
    type: Literal["subagent.started"] = "subagent.started"
    tool_call_id: str
    name: str
    execution: UUID


class SubagentCompleted(Happened):
    type: Literal["subagent.completed"] = "subagent.completed"
    tool_call_id: str
    name: str
    execution: UUID
    status: ExecutionStatus
    content: str


class ExecutionCompleted(Happened):
    type: Literal["execution.completed"] = "execution.completed"
    output: str
    usage: ExecutionUsage


class ExecutionFailed(Happened):
    type: Literal["execution.failed"] = "execution.failed"
    code: str
    detail: str
    usage: ExecutionUsage


class ExecutionCancelled(Happened):
    type: Literal["execution.cancelled"] = "execution.cancelled"


ExecutionEnd = ExecutionCompleted | ExecutionFailed | ExecutionCancelled
StoredEvent = (
    ExecutionStarted
    | ModelStarted
    | ModelCompleted
    | ToolCalled
    | ToolReturned
    | ToolFailed
    | ApprovalRequested
    | ApprovalAnswered
    | SubagentStarted
    | SubagentCompleted
    | ExecutionEnd
)
ExecutionEventRead = Annotated[StoredEvent | ModelDelta, Field(discriminator="type")]
