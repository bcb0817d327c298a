"""Defines the events of an execution as they are streamed to clients. Their `type` tells them apart."""

from datetime import datetime
from typing import Annotated, Any, Literal
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


class EventBase(Read):
    sequence: int = 0
    """Counts 1, 2, 3 … within the execution. A delta has the sequence of the `model.started` that it belongs to."""
    at: datetime | None = None
    execution_id: UUID | None = None


class ExecutionStarted(EventBase):
    type: Literal["execution.started"] = "execution.started"


class ModelStarted(EventBase):
    type: Literal["model.started"] = "model.started"
    model: str
    attempt: int = 1
    """Counts the runs of the execution: another one begins after each wait, and when a process stopped or died."""


class ModelDelta(EventBase):
    """Carries a piece of the model's text, live. It is not stored, since `model.completed` has all of the text."""

    type: Literal["model.delta"] = "model.delta"
    text: str


class ReasoningDelta(EventBase):
    """Carries a piece of the reasoning that the model shows, live. `model.completed` has all of it."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class ModelCompleted(EventBase):
    type: Literal["model.completed"] = "model.completed"
    model: str
    text: str
    reasoning: str = ""
    """Holds what the model showed of its reasoning before its answer."""
    calls: list[Call]
    input_tokens: int
    output_tokens: int
    code: str | None = None
    """Names the reason why the answer was cut short, if it was."""
    data: dict[str, Any] | None = None
    """Holds the answer of an agent with an output schema, of which `text` is the JSON."""
    validation_error: str | None = None
    """Says why the answer does not fit the output schema; the model is told so, and asked again."""


class ToolCalled(EventBase, Call):
    type: Literal["tool.called"] = "tool.called"


class ToolReturned(EventBase):
    type: Literal["tool.returned"] = "tool.returned"
    tool_call_id: str
    name: str
    content: str


class ToolFailed(EventBase):
    type: Literal["tool.failed"] = "tool.failed"
    tool_call_id: str
    name: str
    detail: str


class ApprovalRequested(EventBase, Call):
    """Asks a person to approve a tool call. Answer it at the execution `of`, which may be that of a subagent."""

    type: Literal["approval.requested"] = "approval.requested"
    of: UUID
    expires_at: datetime


class ResultRequested(EventBase, Call):
    """Asks the client to run a tool of its own, and to give the result to the reply that the execution writes."""

    type: Literal["result.requested"] = "result.requested"
    expires_at: datetime


class ApprovalAnswered(EventBase):
    type: Literal["approval.answered"] = "approval.answered"
    of: UUID
    tool_call_id: str
    approved: bool
    expired: bool = False
    note: str | None = None


class SubagentStarted(EventBase):
    type: Literal["subagent.started"] = "subagent.started"
    tool_call_id: str
    name: str
    execution: UUID


class SubagentCompleted(EventBase):
    type: Literal["subagent.completed"] = "subagent.completed"
    tool_call_id: str
    name: str
    execution: UUID
    status: ExecutionStatus
    content: str


class ExecutionCompleted(EventBase):
    type: Literal["execution.completed"] = "execution.completed"
    output: str
    usage: ExecutionUsage


class ExecutionFailed(EventBase):
    type: Literal["execution.failed"] = "execution.failed"
    code: str
    detail: str
    usage: ExecutionUsage


class ExecutionCancelled(EventBase):
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
    | ResultRequested
    | ApprovalAnswered
    | SubagentStarted
    | SubagentCompleted
    | ExecutionEnd
)
ExecutionEventRead = Annotated[StoredEvent | ModelDelta | ReasoningDelta, Field(discriminator="type")]
