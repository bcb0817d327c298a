from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field

from app.core.reasoning import ReasoningEffort
from app.models.tool import Policy
from app.schemas.base import Body, NotNull, Read, Text
from app.schemas.tool import ToolRead


def _trimmed(value: str) -> str:
    if value != value.strip():
        raise ValueError("the name must not begin or end with white space")
    return value


Name = Annotated[Text, Field(min_length=1, max_length=100), AfterValidator(_trimmed)]
ModelName = Annotated[Text, Field(min_length=1, max_length=200)]
"""Names a model that `/info` lists: `demo`, `provider:name`, or a bare `claude-*` or `gpt-*`."""
Temperature = Annotated[float, Field(ge=0, le=2)]
Instructions = Annotated[Text, Field(max_length=32_000)]
Ids = Annotated[list[UUID], Field(max_length=50)]


class AgentCreate(Body):
    name: Name
    model_name: ModelName
    temperature: Temperature = 0.7
    reasoning_effort: ReasoningEffort | None = None
    """Says how much the model reasons, unless a message does; without it, as the provider does by itself."""
    instructions: Instructions = ""
    tool_ids: Ids = Field(default=[])
    tool_policies: dict[UUID, Policy] = Field(default={})
    """Overrides the tools' own policies for this agent, by the ids of tools."""
    subagent_ids: Ids = Field(default=[])
    output_schema: dict[str, Any] | None = None
    """Describes the object that its answers are, as a JSON schema; without it they are text."""


class AgentUpdate(Body):
    """Replaces the fields that are sent, lists included, and leaves the others as they are."""

    name: NotNull[Name] = None
    model_name: NotNull[ModelName] = None
    temperature: NotNull[Temperature] = None
    reasoning_effort: ReasoningEffort | None = None
    instructions: NotNull[Instructions] = None
    tool_ids: NotNull[Ids] = None
    tool_policies: NotNull[dict[UUID, Policy]] = None
    subagent_ids: NotNull[Ids] = None
    output_schema: dict[str, Any] | None = None
    """Replaces what its answers are; with null they are text again."""


class SubagentRead(Read):
    id: UUID
    name: str


class AgentRead(Read):
    id: UUID
    name: str
    model_name: str
    temperature: float
    reasoning_effort: ReasoningEffort | None
    instructions: str
    tools: list[ToolRead]
    """Lists the tools that it may call, each with the policy for this agent."""
    subagents: list[SubagentRead]
    output_schema: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
