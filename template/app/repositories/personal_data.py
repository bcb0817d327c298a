"""Finds all rows that belong to a user by foreign keys, whichever feature made the table, so that none is forgotten."""

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
    """Represents a foreign key by which rows belong to other rows, their owners."""

    column: Column[Any]
    to: Column[Any]

    @property
    def order(self) -> list[Column[Any]]:
        """Returns what sorts an owner's rows: the rest of a unique constraint that begins with the link, or the key."""
        table = self.column.table
        unique = ([*found.columns] for found in table.constraints if isinstance(found, UniqueConstraint))
        orders = (rest for first, *rest in unique if first is self.column and rest and all(map(_is_sound, rest)))
        return next(orders, [*table.primary_key.columns])


def personal_tables() -> list[Table]:
    """Returns `users` and all tables that refer to it, directly or through others, each after those it refers to."""
    found = [_users]
    for table in Base.metadata.sorted_tables:
        if table is not _users and _links(table, found):
            found.append(table)
    return found


def links(table: Table) -> list[Link]:
    """Returns the links of a table, those to `users` first. A user's row is linked to itself."""
    if table is _users:
        return [Link(_users.c.id, _users.c.id)]
    tables = personal_tables()
    return _links(table, tables[: tables.index(table)])


def grouped(counts: Mapping[Any, int], size: int) -> Iterator[list[Any]]:
    """Groups owners so that each group has at most `size` rows; an owner with more rows is a group alone."""
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
    """Reads and deletes one user's rows of any table. Columns that are marked as secret are not read."""

    deleted_at_once = 1_000

    def __init__(self, session: AsyncSession, user_id: UUID) -> None:
        self._session = session
        self._user_id = user_id

    async def counts(self, link: Link, owners: Sequence[Any]) -> Mapping[Any, int]:
        """Counts the rows of each owner; owners without rows are left out."""
        counted = select(link.column, func.count()).where(*self._of(link, owners)).group_by(link.column)
        return {row[0]: row[1] for row in await self._session.execute(counted)}

    async def rows(
        self, link: Link, owners: Sequence[Any], limit: int, after: Row | None, only: Column[Any] | None = None
    ) -> Sequence[Row]:
        """Returns all rows of several owners, or at most `limit` rows of one owner, those after the row `after`.

        With `only`, rows have this column and those that sort them.
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
        """Yields the conditions for the owners' rows, without rows that an earlier link of the table leads to."""
        yield link.column.in_(owners)
        for earlier in links(link.column.table):
            if earlier == link:
                return
            yield or_(earlier.column.is_(None), ~self._belongs_by(earlier))

    async def delete_some(self, table: Table) -> int:
        """Deletes a batch of the user's rows and returns how many; fewer than `deleted_at_once` when none is left."""
        keys: Sequence[Column[Any]] = list(table.primary_key.columns)
        some = select(*keys).where(self._belongs(table)).limit(self.deleted_at_once)
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
