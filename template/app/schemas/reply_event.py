"""Defines the events of a reply besides its text: reasoning, and what an agent does. Their `type` tells them apart."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from app.schemas.base import Read


class ReplyEvent(Read):
    """Tells what happens while a reply is written; `part` counts the parts that come before the one concerned."""

    reply_id: UUID
    part: int


class ReasoningDelta(ReplyEvent):
    """Carries a piece of the reasoning that a model shows, which is no part of the text."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class MessageData(ReplyEvent):
    """Carries the answer of an agent with an output schema, which comes as a whole."""

    type: Literal["message.data"] = "message.data"
    data: dict[str, Any]


class CallEvent(ReplyEvent):
    """Tells what happened to a tool call, which is the part with this number."""

    tool_call_id: str


class ToolCalled(CallEvent):
    type: Literal["tool.called"] = "tool.called"
    name: str
    arguments: str


class ToolReturned(CallEvent):
    type: Literal["tool.returned"] = "tool.returned"
    name: str
    content: str


class ToolFailed(CallEvent):
    type: Literal["tool.failed"] = "tool.failed"
    name: str
    detail: str
    denied: bool
    """Tells whether a person has denied the call."""


class ApprovalRequested(CallEvent):
    """Asks a person to approve a tool call, which may be that of a subagent."""

    type: Literal["approval.requested"] = "approval.requested"
    name: str
    arguments: str
    expires_at: datetime


class ResultRequested(CallEvent):
    """Asks the client to run a tool that it has declared, and to give the results of all such calls together."""

    type: Literal["result.requested"] = "result.requested"
    name: str
    arguments: str
    expires_at: datetime


class ApprovalAnswered(CallEvent):
    type: Literal["approval.answered"] = "approval.answered"
    approved: bool
    expired: bool
    note: str | None


class SubagentStarted(CallEvent):
    type: Literal["subagent.started"] = "subagent.started"
    name: str
    execution_id: UUID


class SubagentCompleted(CallEvent):
    type: Literal["subagent.completed"] = "subagent.completed"
    name: str
    execution_id: UUID
    status: Literal["completed", "failed", "cancelled"]
    content: str


class MessageRewound(ReplyEvent):
    """Takes back what came of a part and of those after it: the model was asked again, and says it in other words."""

    type: Literal["message.rewound"] = "message.rewound"


AgentEvent = (
    ReasoningDelta
    | MessageData
    | ToolCalled
    | ToolReturned
    | ToolFailed
    | ApprovalRequested
    | ResultRequested
    | ApprovalAnswered
    | SubagentStarted
    | SubagentCompleted
    | MessageRewound
)
