from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import AccountGone, NotFound
from app.models.base import Base, Owned
from app.models.user import User

T = TypeVar("T")
M = TypeVar("M", bound=Base)
TOwned = TypeVar("TOwned", bound=Owned)


def insert(session: AsyncSession, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Returns the INSERT of this database's dialect, which has ON CONFLICT."""
    return (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(model)


async def lock_user(session: AsyncSession, id: UUID, *, exclusive: bool = False) -> bool:
    """Locks an account against deletion until the transaction ends; returns False when it is gone.

    Call it before any of the user's rows is locked: deletion, too, locks the account first, so that the two cannot
    deadlock. With `exclusive`, only one transaction at a time holds it so, and what it counts stays as it is.
    """
    held: set[UUID] = session.info.setdefault("held", set())
    if exclusive or id not in held:
        held.update((await session.scalars(_LOCK_EXCLUSIVE if exclusive else _LOCK_SHARED, {"user_id": id})).all())
    return id in held


async def delete_of_users(
    session: AsyncSession, kind: type[Owned], *where: ColumnElement[bool], limit: int | None = None
) -> int:
    """Deletes rows of all users and returns how many. It skips accounts that others have locked to delete them."""
    rows = select(kind.id).join(User, User.id == kind.user_id).where(*where).limit(limit)
    free = rows.with_for_update(read=True, key_share=True, of=User, skip_locked=True)
    return len((await session.scalars(delete(kind).where(kind.id.in_(free)).returning(kind.id))).all())


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: Sequence[T]
    next_cursor: UUID | None
    """Tells where the next page starts; None on the last page."""


class BaseRepository(Generic[M]):
    """Reads and writes rows of one table. `find` and `find_…` may return None, `get` raises NotFound."""

    model: type[M]

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, id: UUID, *, lock: bool = False) -> M | None:
        """Returns the row, or None. With `lock`, other writers of the row wait until the transaction ends."""
        rows = self._rows().where(self.model.id == id)
        return await self._session.scalar(rows.with_for_update() if lock else rows)

    async def get(self, id: UUID, *, lock: bool = False) -> M:
        row = await self.find(id, lock=lock)
        if row is None:
            raise NotFound(self.model.__name__, id)
        return row

    async def list(self, limit: int, cursor: UUID | None = None, *where: ColumnElement[bool]) -> Page[M]:
        """Returns a page, newest first: ids are UUIDv7, so they sort by creation, and the last one is the cursor."""
        rows = self._rows().where(*where).order_by(self.model.id.desc()).limit(limit + 1)
        if cursor is not None:
            rows = rows.where(self.model.id < cursor)
        found = (await self._session.scalars(rows)).all()
        items = found[:limit]
        return Page(items, items[-1].id if len(found) > limit else None)

    async def count(self, *where: ColumnElement[bool]) -> int:
        return await self._session.scalar(self._rows().where(*where).with_only_columns(func.count(self.model.id))) or 0

    async def create(self, **values: Any) -> M:
        row = self.model(**values)
        self._session.add(row)
        await self._session.flush()
        return row

    async def update(self, row: M, changes: Mapping[str, Any]) -> M:
        """Writes exactly these fields, None included."""
        for name, value in changes.items():
            setattr(row, name, value)
        await self._session.flush()
        return row

    async def delete(self, row: M) -> None:
        await self._session.delete(row)
        await self._session.flush()

    def _rows(self) -> Select[M]:
        return select(self.model)


class OwnedRepository(BaseRepository[TOwned]):
    """Reads and writes one user's rows. Every query starts at `_rows`, so other users' rows are invisible here.

    It locks the user before it creates or locks a row, see `lock_user`.
    """

    def __init__(self, session: AsyncSession, user_id: UUID) -> None:
        super().__init__(session)
        self._user_id = user_id

    async def lock_owner(self, *, exclusive: bool = False) -> None:
        """Locks the user, see `lock_user`. Raises AccountGone."""
        if not await lock_user(self._session, self._user_id, exclusive=exclusive):
            raise AccountGone

    async def hold_owner(self, *, alone: bool = False) -> None:
        """Calls `lock_owner`, by its name in 0.1, which works until 0.3."""
        await self.lock_owner(exclusive=alone)

    async def find(self, id: UUID, *, lock: bool = False) -> TOwned | None:
        if lock:
            await self.lock_owner()
        return await super().find(id, lock=lock)

    async def create(self, **values: Any) -> TOwned:
        await self.lock_owner()
        return await super().create(user_id=self._user_id, **values)

    def _rows(self) -> Select[TOwned]:
        return super()._rows().where(self.model.user_id == self._user_id)


_ONE_USER = select(User.id).where(User.id == bindparam("user_id", type_=Uuid()))
_LOCK_SHARED = _ONE_USER.with_for_update(read=True, key_share=True)
_LOCK_EXCLUSIVE = _ONE_USER.with_for_update(key_share=True)
