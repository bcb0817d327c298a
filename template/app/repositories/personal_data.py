"""What hangs on a user by foreign keys, whichever feature made the table: none can be forgotten."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Table, UniqueConstraint, delete, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import Base
from app.models.user import User

_users = Base.metadata.tables[User.__tablename__]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key by which rows hang on others: their owners."""

    column: Column[Any]
    to: Column[Any]

    @property
    def order(self) -> list[Column[Any]]:
        """How the rows of one owner are read in turn: as a unique constraint that begins with the link, or by key."""
        table = self.column.table
        unique = ([*found.columns] for found in table.constraints if isinstance(found, UniqueConstraint))
        orders = (rest for first, *rest in unique if first is self.column and rest and all(map(_is_sound, rest)))
        return next(orders, [*table.primary_key.columns])


def personal_tables() -> list[Table]:
    """`users` and all that refers to it, directly or through others; what is referred to comes first."""
    found = [_users]
    for table in Base.metadata.sorted_tables:
        if table is not _users and _links(table, found):
            found.append(table)
    return found


def links(table: Table) -> list[Link]:
    """Those to `users` first. The row of a user hangs on itself."""
    if table is _users:
        return [Link(_users.c.id, _users.c.id)]
    tables = personal_tables()
    return _links(table, tables[: tables.index(table)])


def grouped(counts: Mapping[Any, int], size: int) -> Iterator[list[Any]]:
    """As many owners at a time as have so many rows together; one that has more is alone."""
    group, rows = list[Any](), 0
    for owner, count in counts.items():
        if group and rows + count > size:
            yield group
            group, rows = [], 0
        group.append(owner)
        rows += count
    if group:
        yield group


class PersonalDataRepository:
    """One person's rows of any table, without the columns that are marked as secret."""

    def __init__(self, session: AsyncSession, user_id: UUID) -> None:
        self._session = session
        self._user_id = user_id

    async def counts(self, link: Link, owners: Sequence[Any]) -> Mapping[Any, int]:
        """How many rows each owner has, if any."""
        counted = select(link.column, func.count()).where(*self._of(link, owners)).group_by(link.column)
        return {row[0]: row[1] for row in await self._session.execute(counted)}

    async def rows(
        self, link: Link, owners: Sequence[Any], limit: int, after: Row | None, only: Column[Any] | None = None
    ) -> Sequence[Row]:
        """All that several owners have; of one, so many rows, of which `after` is the last one before them.

        `only`: without the columns that are neither this one nor needed to go on.
        """
        shown = [column for column in link.column.table.columns if not column.info.get("secret")]
        columns = shown if only is None else dict.fromkeys([only, *link.order])
        rows = select(*columns).where(*self._of(link, owners)).order_by(*link.order)
        if after is not None:
            last = [literal(after[column.name], column.type) for column in link.order]
            rows = rows.where(tuple_(*link.order) > tuple_(*last))
        found = await self._session.execute(rows if len(owners) > 1 else rows.limit(limit))
        return [dict(row) for row in found.mappings()]

    def _of(self, link: Link, owners: Sequence[Any]) -> Iterator[ColumnElement[bool]]:
        """Those that an earlier link leads to are left out."""
        yield link.column.in_(owners)
        for earlier in links(link.column.table):
            if earlier == link:
                return
            yield or_(earlier.column.is_(None), ~self._belongs_by(earlier))

    async def delete_some(self, table: Table, limit: int) -> int:
        """How many of the rows went; fewer than `limit` when none is left."""
        keys: Sequence[Column[Any]] = list(table.primary_key.columns)
        some = select(*keys).where(self._belongs(table)).limit(limit)
        gone = delete(table).where(tuple_(*keys).in_(some)).returning(keys[0])
        return len((await self._session.scalars(gone)).all())

    def _belongs(self, table: Table) -> ColumnElement[bool]:
        if table is _users:
            return _users.c.id == self._user_id
        return or_(*map(self._belongs_by, links(table)))

    def _belongs_by(self, link: Link) -> ColumnElement[bool]:
        return link.column.in_(select(link.to).where(self._belongs(link.to.table)))


def _links(table: Table, tables: Sequence[Table]) -> list[Link]:
    found = [Link(key.parent, key.column) for key in table.foreign_keys if key.column.table in tables]
    return sorted(found, key=lambda link: (link.to.table is not _users, link.column.name))


def _is_sound(column: Column[Any]) -> bool:
    return not (column.nullable or column.info.get("secret"))
