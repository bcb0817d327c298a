from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.core.reasoning import ReasoningEffort
from app.core.sampling import Sampling
from app.models.execution import ApprovalKind, ApprovalStatus, ExecutionStatus
from app.models.tool import Policy
from app.schemas.base import Body, Money, PageRead, Read, Words
from app.schemas.client_tool import DeclaredTool


class GrantedTool(BaseModel):
    name: str
    description: str
    input_schema: dict[str, Any]
    policy: Policy


class GrantedSubagent(BaseModel):
    id: UUID
    name: str
    tool: str
    """Names the tool by which the model delegates to it."""


class Limits(BaseModel):
    """Limits one execution together with all its subagents; 0 means no limit."""

    steps: int
    tokens: int
    seconds: float
    dollars: Money


class Configuration(BaseModel):
    """Shows exactly what an execution runs with, even if its agent is changed or deleted later."""

    name: str
    model_name: str
    temperature: float
    reasoning_effort: ReasoningEffort | None = None
    instructions: str
    tools: list[GrantedTool]
    subagents: list[GrantedSubagent]
    client_tools: list[DeclaredTool] = []
    """Lists the tools that the client has declared and runs itself."""
    limits: Limits
    lineage: list[UUID] = []
    """Lists the ids of the agents that delegated to this one, from the first one on."""
    output_schema: dict[str, Any] | None = None
    sampling: Sampling = Field(default_factory=Sampling)
    max_output_tokens: int | None = None
    """Limits each answer of the model further than the service does."""


class ExecutionCreate(Body):
    input: Annotated[Words, Field(min_length=1)]


class ExecutionUsage(Read):
    steps: int
    """Counts requests to models."""
    input_tokens: int
    output_tokens: int
    cost: Money | None
    """Holds US dollars; null where no price is known."""


class ExecutionError(Read):
    code: str
    detail: str


class ExecutionRead(Read):
    id: UUID
    agent_id: UUID
    parent_id: UUID | None
    """Identifies the execution whose agent delegated this one."""
    message_id: UUID | None
    """Identifies the reply of a conversation that it writes, or that the execution writes which delegated it."""
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
    kind: ApprovalKind
    tool: str
    arguments: str
    """Holds JSON, exactly as the tool will receive it."""
    status: ApprovalStatus
    expires_at: datetime
    answered_at: datetime | None
    note: str | None


class ExecutionDetail(ExecutionRead):
    configuration: Configuration
    approvals: list[ApprovalRead]


class ExecutionSummary(Read):
    """Shows what operators need of an execution, without what people and models wrote."""

    id: UUID
    user_id: UUID
    email: str
    agent_id: UUID
    agent_name: str
    """Holds the agent's present name."""
    parent_id: UUID | None
    message_id: UUID | None
    status: ExecutionStatus
    error: ExecutionError | None
    attempt: int
    """Counts its runs; a run that was lost to a crash is followed by another."""
    usage: ExecutionUsage
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ExecutionOverview(PageRead[ExecutionSummary]):
    counts: Mapping[ExecutionStatus, int]
    """Counts, by status, those of everyone that have not finished or finished within a day."""
