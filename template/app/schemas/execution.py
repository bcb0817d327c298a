from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.models.execution import ApprovalStatus, ExecutionStatus
from app.models.tool import Policy
from app.schemas.base import Body, Money, Read, Text, Words


class GrantedTool(BaseModel):
    name: str
    description: str
    input_schema: dict[str, Any]
    policy: Policy


class GrantedSubagent(BaseModel):
    id: UUID
    name: str
    tool: str
    """The name of the tool by which a model delegates to it."""


class Limits(BaseModel):
    """Of one execution with all its subagents. 0: no limit."""

    steps: int
    tokens: int
    seconds: float
    dollars: Money


class Configuration(BaseModel):
    """Exactly what an execution runs with, whatever becomes of its agent."""

    name: str
    model_name: str
    temperature: float
    instructions: str
    tools: list[GrantedTool]
    subagents: list[GrantedSubagent]
    limits: Limits
    lineage: list[UUID] = []
    """The agents that delegated, the first one first."""


class ExecutionCreate(Body):
    input: Annotated[Words, Field(min_length=1)]


class ApprovalAnswer(Body):
    tool_call_id: Annotated[Text, Field(max_length=32)]
    approved: bool
    note: Annotated[Words, Field(max_length=2000)] | None = None
    """For the model, when the call is denied."""


class ExecutionUsage(Read):
    steps: int
    """Requests to models."""
    input_tokens: int
    output_tokens: int
    cost: Money | None
    """Null where no price is known."""


class ExecutionError(Read):
    code: str
    detail: str


class ExecutionRead(Read):
    id: UUID
    agent_id: UUID
    parent_id: UUID | None
    """The execution whose agent delegated this one."""
    status: ExecutionStatus
    input: str
    output: str | None
    error: ExecutionError | None
    usage: ExecutionUsage
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ApprovalRead(Read):
    tool_call_id: str
    tool: str
    arguments: str
    """JSON, exactly as the tool will get it."""
    status: ApprovalStatus
    expires_at: datetime
    answered_at: datetime | None
    note: str | None


class ExecutionDetail(ExecutionRead):
    configuration: Configuration
    approvals: list[ApprovalRead]
