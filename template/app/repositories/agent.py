from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, delete, select

from app.core.errors import NotFound
from app.models.agent import Agent, AgentSubagent, AgentTool
from app.models.tool import Policy, Tool
from app.repositories.base import OwnedRepository


@dataclass(frozen=True, slots=True)
class Grant:
    tool: Tool
    policy: Policy


# It is built once, since building it costs more than executing it.
_LOAD = (
    select(Agent, Tool, AgentTool.policy, select(AgentSubagent.id).where(AgentSubagent.agent_id == Agent.id).exists())
    .outerjoin(AgentTool, AgentTool.agent_id == Agent.id)
    .outerjoin(Tool, and_(Tool.id == AgentTool.tool_id, Tool.available))
    .where(Agent.id == bindparam("id"), Agent.user_id == bindparam("user_id"), Agent.deleted_at.is_(None))
    .order_by(Tool.name)
)


class AgentRepository(OwnedRepository[Agent]):
    """Reads and writes one user's agents with their tools and subagents. Deleted agents are invisible here."""

    model = Agent

    async def load(self, id: UUID) -> tuple[Agent, Sequence[Grant], Sequence[Agent]]:
        """Returns an agent, what it is granted and its subagents, in one query where it has none. Raises NotFound."""
        rows = (await self._session.execute(_LOAD, {"id": id, "user_id": self._user_id})).all()
        if not rows:
            raise NotFound("Agent", id)
        subagents: Sequence[Agent] = (await self.subagents([id])).get(id, ()) if rows[0][3] else ()
        return rows[0][0], [Grant(tool, policy) for _agent, tool, policy, _ in rows if tool], subagents

    async def grants(self, agent_ids: Collection[UUID]) -> Mapping[UUID, Sequence[Grant]]:
        found = (
            select(AgentTool.agent_id, Tool, AgentTool.policy)
            .join(Tool, Tool.id == AgentTool.tool_id)
            .where(AgentTool.agent_id.in_(agent_ids), AgentTool.agent_id.in_(self._mine()), Tool.available)
            .order_by(Tool.name)
        )
        grants: dict[UUID, list[Grant]] = defaultdict(list)
        for agent_id, tool, policy in await self._session.execute(found):
            grants[agent_id].append(Grant(tool, policy))
        return grants

    async def subagents(self, agent_ids: Collection[UUID]) -> Mapping[UUID, Sequence[Agent]]:
        found = (
            self._rows()
            .add_columns(AgentSubagent.agent_id)
            .join(AgentSubagent, AgentSubagent.subagent_id == Agent.id)
            .where(AgentSubagent.agent_id.in_(agent_ids))
            .order_by(Agent.id)
        )
        subagents: dict[UUID, list[Agent]] = defaultdict(list)
        for agent, agent_id in await self._session.execute(found):
            subagents[agent_id].append(agent)
        return subagents

    async def list_called(self, name: str, limit: int) -> Sequence[Agent]:
        """Returns agents with this name, oldest first."""
        found = self._rows().where(Agent.name == name).order_by(Agent.id).limit(limit)
        return (await self._session.scalars(found)).all()

    async def named(self, ids: Collection[UUID]) -> Sequence[Agent]:
        return (await self._session.scalars(self._rows().where(Agent.id.in_(ids)))).all()

    async def delegations(self) -> Mapping[UUID, set[UUID]]:
        """Returns the ids of the subagents of each agent."""
        found = select(AgentSubagent.agent_id, AgentSubagent.subagent_id).where(
            AgentSubagent.agent_id.in_(self._mine())
        )
        delegations: dict[UUID, set[UUID]] = defaultdict(set)
        for agent_id, subagent_id in await self._session.execute(found):
            delegations[agent_id].add(subagent_id)
        return delegations

    async def grant(self, agent: Agent, policies: Mapping[UUID, Policy]) -> None:
        """Replaces the tools of an agent by those that `policies` names."""
        await self._session.execute(delete(AgentTool).where(AgentTool.agent_id == agent.id))
        self._session.add_all(AgentTool(agent_id=agent.id, tool_id=id, policy=policies[id]) for id in policies)
        await self._session.flush()

    async def delegate(self, agent: Agent, subagent_ids: Collection[UUID]) -> None:
        """Replaces the subagents of an agent."""
        await self._session.execute(delete(AgentSubagent).where(AgentSubagent.agent_id == agent.id))
        self._session.add_all(AgentSubagent(agent_id=agent.id, subagent_id=id) for id in subagent_ids)
        await self._session.flush()

    def _rows(self) -> Select[Agent]:
        return super()._rows().where(Agent.deleted_at.is_(None))

    def _mine(self) -> Select[UUID]:
        return self._rows().with_only_columns(Agent.id)
