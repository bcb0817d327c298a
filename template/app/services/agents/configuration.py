"""Copies the configuration of an agent for an execution, when that begins."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Invalid
from app.models.agent import Agent
from app.models.execution import Execution
from app.repositories.agent import AgentRepository, Grant
from app.schemas.client_tool import DeclaredTool
from app.schemas.execution import Configuration, GrantedSubagent, GrantedTool, Limits
from app.services.agents.json_schema import find_flaw
from app.services.ai import ToolSpec
from app.services.ai.schema_limits import SchemaLimits

DELEGATION: Mapping[str, Any] = {
    "type": "object",
    "properties": {"task": {"type": "string", "description": "All that the agent needs to know: it sees nothing else"}},
    "required": ["task"],
    "additionalProperties": False,
}


async def load_configuration(
    session: AsyncSession, user_id: UUID, agent_id: UUID, limits: Limits, lineage: Sequence[UUID] = ()
) -> Configuration:
    """Copies an agent with its granted tools and its subagents. Raises NotFound."""
    agents = AgentRepository(session, user_id)
    agent, grants, subagents = await agents.load(agent_id)
    return Configuration(
        name=agent.name,
        model_name=agent.model_name,
        temperature=agent.temperature,
        reasoning_effort=agent.reasoning_effort,
        instructions=agent.instructions,
        tools=list(map(_tool, grants)),
        subagents=_delegates(subagents, {grant.tool.name for grant in grants}),
        limits=limits,
        lineage=list(lineage),
        output_schema=agent.output_schema,
    )


def tool_specs(configuration: Configuration) -> list[ToolSpec]:
    """Returns what the model may call: the granted tools, each subagent as a tool, and the tools of the client."""
    tools = [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in configuration.tools]
    for subagent in configuration.subagents:
        tools.append(ToolSpec(subagent.tool, f"Give a task to the agent “{subagent.name}”.", DELEGATION))
    tools += [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in configuration.client_tools]
    return tools


def with_client_tools(configuration: Configuration, tools: Sequence[DeclaredTool]) -> Configuration:
    """Returns the configuration with the tools that a client has declared. Raises Invalid."""
    taken, limits = {tool.name for tool in tool_specs(configuration)}, SchemaLimits()
    for tool in tools:
        if tool.name in taken:
            raise Invalid(f"The agent has a tool named {tool.name} itself: give the client's another name.")
        limits.check(tool.input_schema, f"The schema of {tool.name}")
        if flaw := find_flaw(tool.input_schema):
            raise Invalid(f"The schema of {tool.name} is not a valid JSON schema {flaw}.")
    return configuration.model_copy(update={"client_tools": list(tools)})


def client_tool_names(execution: Execution) -> set[str]:
    return {tool["name"] for tool in execution.configuration.get("client_tools", ())}


def subagent_limits(limits: Limits, used: Limits) -> Limits:
    """Returns what is left of each limit, or a minimum where nothing is, since 0 would mean no limit."""
    return Limits(
        steps=max(limits.steps - used.steps, 1),
        tokens=limits.tokens and max(limits.tokens - used.tokens, 1),
        seconds=max(limits.seconds - used.seconds, 1),
        dollars=limits.dollars and max(limits.dollars - used.dollars, limits.dollars / 1_000_000),
    )


def _tool(grant: Grant) -> GrantedTool:
    tool = grant.tool
    return GrantedTool(
        name=tool.name, description=tool.description, input_schema=tool.input_schema, policy=grant.policy
    )


def _delegates(subagents: Sequence[Agent], taken: set[str]) -> list[GrantedSubagent]:
    """Gives each subagent a unique tool name of characters that models accept."""
    found: list[GrantedSubagent] = []
    for agent in subagents:
        name = base = f"ask_{_slug(agent.name)}"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        found.append(GrantedSubagent(id=agent.id, name=agent.name, tool=name))
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "agent"
