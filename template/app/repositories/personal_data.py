"""What hangs on a user by foreign keys, whichever feature made the table: none can be forgotten."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, ForeignKey, Table, delete, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import Base
from app.models.user import User

_users = Base.metadata.tables[User.__tablename__]


def personal_tables() -> list[Table]:
    """`users` and all that refers to it, directly or through others; what is referred to comes first."""
    found = [_users]
    for table in Base.metadata.sorted_tables:
        if table is not _users and _links(table, found):
            found.append(table)
    return found


class PersonalDataRepository:
    """One person's rows of any table, without the columns that are marked as secret."""

    def __init__(self, session: AsyncSession, user_id: UUID) -> None:
        self._session = session
        self._user_id = user_id

    async def rows(self, table: Table, limit: int, after: dict[str, Any] | None) -> Sequence[dict[str, Any]]:
        """In the order of their keys; `after` is the last row of those before."""
        keys: Sequence[Column[Any]] = list(table.primary_key.columns)
        shown = [column for column in table.columns if not column.info.get("secret")]
        rows = select(*shown).where(self._belongs(table)).order_by(*keys).limit(limit)
        if after is not None:
            last = [literal(after[key.name], key.type) for key in keys]
            rows = rows.where(tuple_(*keys) > tuple_(*last))
        return [dict(row) for row in (await self._session.execute(rows)).mappings()]

    async def delete_some(self, table: Table, limit: int) -> int:
        """How many of the rows went; fewer than `limit` when none is left."""
        keys: Sequence[Column[Any]] = list(table.primary_key.columns)
        some = select(*keys).where(self._belongs(table)).limit(limit)
        gone = delete(table).where(tuple_(*keys).in_(some)).returning(keys[0])
        return len((await self._session.scalars(gone)).all())

    def _belongs(self, table: Table) -> ColumnElement[bool]:
        if table is _users:
            return _users.c.id == self._user_id
        tables = personal_tables()
        return or_(
            *(
                link.parent.in_(select(link.column).where(self._belongs(link.column.table)))
                for link in _links(table, tables[: tables.index(table)])
            )
        )


def _links(table: Table, tables: Sequence[Table]) -> list[ForeignKey]:
    return sorted((key for key in table.foreign_keys if key.column.table in tables), key=lambda key: key.parent.name)
