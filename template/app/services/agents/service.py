from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.core.errors import Invalid, NotFound
from app.models.agent import Agent
from app.models.base import now
from app.models.tool import Policy
from app.repositories.agent import AgentRepository, Grant
from app.repositories.base import Page
from app.repositories.tool import ToolRepository
from app.schemas.agent import AgentCreate, AgentRead, AgentUpdate, SubagentRead
from app.schemas.base import PageRead, changed
from app.schemas.tool import ToolRead
from app.services.agents.structured_output import OutputChecker
from app.services.ai import ModelGateway

COLUMNS = {"name", "model_name", "temperature", "reasoning_effort", "instructions", "output_schema"}


class AgentService:
    """Manages one person's agents. No method needs more queries for more tools or subagents."""

    def __init__(self, database: Database, ai: ModelGateway, output: OutputChecker, user_id: UUID) -> None:
        self._database = database
        self._ai = ai
        self._output = output
        self._user_id = user_id

    async def create(self, data: AgentCreate) -> AgentRead:
        """Creates an agent with its tools and subagents. Raises Invalid, NotFound, Busy."""
        await self._check(data)
        async with self._database.write(self._user_id) as session:
            agents = AgentRepository(session, self._user_id)
            agent = await agents.create(**data.model_dump(include=COLUMNS))
            await self._grant(session, agent, data.tool_ids, data.tool_policies)
            await self._delegate(agents, agent, data.subagent_ids)
            return (await _read(agents, [agent]))[0]

    async def list(self, limit: int, cursor: UUID | None) -> PageRead[AgentRead]:
        async with self._database.read() as session:
            agents = AgentRepository(session, self._user_id)
            page: Page[Agent] = await agents.list(limit, cursor)
            return PageRead(items=await _read(agents, page.items), next_cursor=page.next_cursor)

    async def get(self, id: UUID) -> AgentRead:
        """Returns an agent with its tools and subagents. Raises NotFound."""
        async with self._database.read() as session:
            agents = AgentRepository(session, self._user_id)
            return (await _read(agents, [await agents.get(id)]))[0]

    async def update(self, id: UUID, data: AgentUpdate) -> AgentRead:
        """Changes the fields that are given. Raises Invalid, NotFound, Busy."""
        changes = changed(data)
        await self._check(data)
        async with self._database.write(self._user_id) as session:
            agents = AgentRepository(session, self._user_id)
            if data.subagent_ids is not None:
                await agents.lock_owner(exclusive=True)  # or two updates at once could form a cycle
            agent = await agents.get(id, lock=True)
            columns = {name: changes[name] for name in COLUMNS & changes.keys()}
            await agents.update(agent, {**columns, "updated_at": now()})
            if data.tool_ids is not None or data.tool_policies is not None:
                await self._regrant(session, agents, agent, data)
            if data.subagent_ids is not None:
                await self._delegate(agents, agent, data.subagent_ids)
            return (await _read(agents, [agent]))[0]

    async def delete(self, id: UUID) -> None:
        """Marks an agent as deleted; its executions stay, and those under way go on. Raises NotFound."""
        async with self._database.write(self._user_id) as session:
            agents = AgentRepository(session, self._user_id)
            await agents.update(await agents.get(id, lock=True), {"deleted_at": now()})

    async def _check(self, data: AgentCreate | AgentUpdate) -> None:
        if data.model_name is not None:
            self._ai.check(data.model_name)
        if data.output_schema is not None:
            await self._output.check_schema(data.output_schema)

    async def _regrant(self, session: AsyncSession, agents: AgentRepository, agent: Agent, data: AgentUpdate) -> None:
        """Replaces the granted tools, or only their policies; a tool without a new policy keeps its old one."""
        before = {grant.tool.id: grant.policy for grant in (await agents.grants([agent.id])).get(agent.id, [])}
        ids = before if data.tool_ids is None else data.tool_ids
        kept = {id: before[id] for id in before.keys() & set(ids)}
        await self._grant(session, agent, ids, {**kept, **(data.tool_policies or {})})

    async def _grant(
        self, session: AsyncSession, agent: Agent, ids: Collection[UUID], policies: Mapping[UUID, Policy]
    ) -> None:
        tools = {tool.id: tool for tool in await ToolRepository(session).named(ids)}
        _check_all("Tool", ids, tools)
        if more := policies.keys() - tools.keys():
            raise Invalid(f"The tool {min(more)} has a policy but is not granted: add it to tool_ids.")
        granted = {id: policies.get(id, tool.policy) for id, tool in tools.items()}
        await AgentRepository(session, self._user_id).grant(agent, granted)

    async def _delegate(self, agents: AgentRepository, agent: Agent, ids: Collection[UUID]) -> None:
        _check_all("Agent", ids, {found.id for found in await agents.named(ids)})
        delegations = dict(await agents.delegations()) | {agent.id: set(ids)}
        if agent.id in _reached(delegations, agent.id):
            raise Invalid("Subagents must not form a cycle.")
        await agents.delegate(agent, set(ids))


async def _read(agents: AgentRepository, rows: Sequence[Agent]) -> list[AgentRead]:
    ids = [agent.id for agent in rows]
    grants, subagents = await agents.grants(ids), await agents.subagents(ids)
    return [_agent(agent, grants.get(agent.id, ()), subagents.get(agent.id, ())) for agent in rows]


def _agent(agent: Agent, grants: Iterable[Grant], subagents: Iterable[Agent]) -> AgentRead:
    return AgentRead(
        id=agent.id,
        name=agent.name,
        model_name=agent.model_name,
        temperature=agent.temperature,
        reasoning_effort=agent.reasoning_effort,
        instructions=agent.instructions,
        tools=[_tool(grant) for grant in grants],
        subagents=[SubagentRead.model_validate(subagent) for subagent in subagents],
        output_schema=agent.output_schema,
        created_at=agent.created_at,
        updated_at=agent.updated_at,
    )


def _tool(grant: Grant) -> ToolRead:
    return ToolRead.model_validate(grant.tool).model_copy(update={"policy": grant.policy})


def _check_all(kind: str, wanted: Iterable[UUID], found: Collection[UUID]) -> None:
    for id in wanted:
        if id not in found:
            raise NotFound(kind, id)


def _reached(delegations: Mapping[UUID, Collection[UUID]], start: UUID) -> set[UUID]:
    """Returns the ids of all agents that one may delegate to, directly or through others."""
    reached: set[UUID] = set()
    left = list(delegations.get(start, ()))
    while left:
        if (id := left.pop()) not in reached:
            reached.add(id)
            left += delegations.get(id, ())
    return reached
