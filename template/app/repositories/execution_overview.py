from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.agent import Agent
from app.models.base import now
from app.models.execution import FAILED, UNFINISHED, Execution, ExecutionStatus
from app.models.user import User

RECENT = timedelta(days=1)
_SHOWN = (
    Execution.id,
    Execution.user_id,
    User.email,
    Execution.agent_id,
    Agent.name.label("agent_name"),
    Execution.parent_id,
    Execution.message_id,
    Execution.status,
    Execution.code,
    Execution.detail,
    Execution.attempt,
    Execution.steps,
    Execution.input_tokens,
    Execution.output_tokens,
    Execution.cost,
    Execution.created_at,
    Execution.started_at,
    Execution.finished_at,
)


class ExecutionOverviewRepository:
    """Reads executions of all users, without what people and models wrote, for those who operate the application."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(
        self, limit: int, cursor: UUID | None, status: ExecutionStatus | None, user_id: UUID | None
    ) -> Sequence[RowMapping]:
        """Lists executions, those of subagents too, newest first."""
        rows = select(*_SHOWN).join(User, User.id == Execution.user_id).join(Agent, Agent.id == Execution.agent_id)
        if status is not None:
            rows = rows.where(_of(status))
        if user_id is not None:
            rows = rows.where(Execution.user_id == user_id)
        if cursor is not None:
            rows = rows.where(Execution.id < cursor)
        return (await self._session.execute(rows.order_by(Execution.id.desc()).limit(limit))).mappings().all()

    async def count(self) -> Mapping[ExecutionStatus, int]:
        """Counts those that have not finished, and those that finished in the last day, by their status."""
        recent = or_(UNFINISHED, Execution.finished_at > now() - RECENT)
        counts = select(Execution.status, func.count().label("number")).where(recent).group_by(Execution.status)
        return {row.status: row.number for row in await self._session.execute(counts)}


def _of(status: ExecutionStatus) -> Any:
    """Selects by the status, with the literal conditions of the indexes, which databases use only so."""
    if status is ExecutionStatus.failed:
        return FAILED
    return Execution.status == status if status.is_final else (Execution.status == status) & UNFINISHED
