from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.core.reasoning import ReasoningEffort
from app.models.base import Base, Owned, now
from app.models.tool import Policy


class Agent(Owned):
    __tablename__ = "agents"

    name: Mapped[str] = mapped_column(sa.String(100))
    model_name: Mapped[str] = mapped_column(sa.String(200))
    temperature: Mapped[float]
    reasoning_effort: Mapped[ReasoningEffort | None] = mapped_column(sa.String(16))
    instructions: Mapped[str] = mapped_column(sa.Text)
    output_schema: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    deleted_at: Mapped[datetime | None]
    """Marks the agent as deleted; its executions stay."""


class AgentTool(Base):
    """Grants a tool to an agent."""

    __tablename__ = "agent_tools"
    __table_args__ = (sa.UniqueConstraint("agent_id", "tool_id"),)

    agent_id: Mapped[UUID] = mapped_column(sa.ForeignKey("agents.id", ondelete="CASCADE"))
    tool_id: Mapped[UUID] = mapped_column(sa.ForeignKey("tools.id", ondelete="CASCADE"))
    policy: Mapped[Policy]


class AgentSubagent(Base):
    """Allows an agent to delegate to another one, its subagent."""

    __tablename__ = "agent_subagents"
    __table_args__ = (sa.UniqueConstraint("agent_id", "subagent_id"),)

    agent_id: Mapped[UUID] = mapped_column(sa.ForeignKey("agents.id", ondelete="CASCADE"))
    subagent_id: Mapped[UUID] = mapped_column(sa.ForeignKey("agents.id", ondelete="CASCADE"), index=True)
