from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.usage import Usage
from app.models.user import User

_COUNTED = (Usage.requests, Usage.input_tokens, Usage.output_tokens, Usage.characters, Usage.seconds)
_SUMS = (
    *(func.coalesce(func.sum(column), 0).label(column.key) for column in _COUNTED),
    func.sum(Usage.cost).label("cost"),
)
_GROUPS: dict[str, tuple[Any, ...]] = {
    "day": (Usage.day,),
    "feature": (Usage.feature,),
    "model": (Usage.model,),
    "user": (Usage.user_id, User.email),
}


class UsageTotalsRepository:
    """Sums the usage of all users, for those who operate the application."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(
        self, by: str, since: date, user_id: UUID | None, limit: int, offset: int
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Sums the usage since a day for each day, feature, model or user, the newest or most expensive first."""
        groups = _GROUPS[by]
        newest = [Usage.day.desc()] if by == "day" else []
        dearest = [func.sum(Usage.cost).desc().nulls_last(), func.sum(Usage.input_tokens + Usage.output_tokens).desc()]
        rows = _since(since, user_id, *groups).group_by(*groups).order_by(*newest or dearest, groups[0])
        return (await self._session.execute(rows.limit(limit).offset(offset))).all()

    async def sum(self, since: date, user_id: UUID | None) -> Row[*tuple[Any, ...]]:
        return (await self._session.execute(_since(since, user_id))).one()


def _since(day: date, user_id: UUID | None, *groups: Any) -> Select[*tuple[Any, ...]]:
    rows = select(*groups, *_SUMS).select_from(Usage).where(Usage.day >= day)
    if User.email in groups:
        rows = rows.join(User, User.id == Usage.user_id)
    return rows if user_id is None else rows.where(Usage.user_id == user_id)
