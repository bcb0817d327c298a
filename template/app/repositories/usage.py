"""Counts usage, at every request to a model. Its statements are built once, which costs more than running them."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Date,
    FromClause,
    Insert,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert
from uuid_utils.compat import uuid7

from app.core.errors import AccountGone
from app.models.base import Base, now
from app.models.usage import Reservation, Usage
from app.models.user import User
from app.repositories.base import OwnedRepository, delete_of_users, lock_user

STALE_AFTER = timedelta(hours=1)
"""Limits the age of a reservation; an older one no longer counts, since the process that made it must be gone."""


@dataclass(frozen=True, slots=True)
class Amount:
    tokens: int
    cost: Decimal
    """Holds US dollars."""
    characters: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """Describes what one request to a model used."""

    model: str
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    """Holds US dollars; None where the price is not known."""
    characters: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """Sums what a user has used and reserved this day and month, and counts the reservations of a feature."""

    day: Amount
    month: Amount
    reservations: int


class UsageRepository(OwnedRepository[Usage]):
    """Reads and writes what one user has used, and has reserved for work under way."""

    model = Usage

    async def reserve(self, subject_id: UUID, feature: str, amount: Amount) -> Balance:
        """Reserves an amount and returns the balance with it. Others that do so for the user wait for this transaction.

        Raises AccountGone.
        """
        at = now()
        row = {"id": subject_id, "created_at": at, "user_id": self._user_id, "day": at.date(), "feature": feature}
        if await self._session.scalar(_RESERVE, {**row, **asdict(amount)}) is None:
            raise AccountGone
        return await self.balance(at, feature)

    async def balance(self, at: datetime, feature: str = "") -> Balance:
        """Returns the balance of the day and month of `at`, with the number of reservations of this feature."""
        today = at.date()
        when = {"day": today, "month": today.replace(day=1), "stale": at - STALE_AFTER}
        found = await self._session.execute(_BALANCE, {**when, "user_id": self._user_id, "feature": feature})
        *sums, reservations = (value or 0 for value in found.one())
        return Balance(_amount(*sums[:4]), _amount(*sums[4:]), reservations)

    async def record(
        self, subject_id: UUID, feature: str, used: UsageRecord | None, *, was_reserved: bool = True
    ) -> None:
        """Replaces what was reserved for a request, if anything was, by what it has used.

        `used` is None when no model was asked.
        """
        await lock_user(self._session, self._user_id)
        day = None
        if was_reserved:
            day = await self._session.scalar(_RELEASE, {"user_id": self._user_id, "id": subject_id})
        day = day or now().date()
        if used is not None:
            row = {"id": uuid7(), "created_at": now(), "user_id": self._user_id, "day": day, "feature": feature}
            add = _ADD[self._session.get_bind().dialect.name]
            await self._session.execute(add, {**row, "requests": 1, **asdict(used)})

    async def since(self, day: date) -> Sequence[Usage]:
        """Returns the usage since a day, newest first."""
        rows = self._rows().where(Usage.day >= day).order_by(Usage.day.desc(), Usage.feature, Usage.model)
        return (await self._session.scalars(rows)).all()


class ReservationRepository:
    """Deletes reservations of all users, for what the application does by itself."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def release(self, subject_ids: Collection[UUID]) -> None:
        """Deletes the reservations of work that nobody will settle, unless others have locked them to delete them."""
        free = select(Reservation.id).where(Reservation.id.in_(subject_ids)).with_for_update(skip_locked=True)
        await self._session.execute(delete(Reservation).where(Reservation.id.in_(free)))

    async def delete_stale(self) -> None:
        await delete_of_users(self._session, Reservation, Reservation.created_at <= now() - STALE_AFTER)


def _amount(tokens: Any, cost: Any, characters: Any, seconds: Any) -> Amount:
    return Amount(int(tokens), Decimal(cost), int(characters), int(seconds))


_users = Base.metadata.tables[User.__tablename__]
_usage = Base.metadata.tables[Usage.__tablename__]
_reservations = Base.metadata.tables[Reservation.__tablename__]


def _param(column: ColumnElement[Any]) -> BindParameter[Any]:
    return bindparam(str(column.key), type_=column.type)


def _own_row(table: FromClause) -> Select[*tuple[Any, ...]]:
    """Selects a row of parameters for an INSERT; no row when the user is gone."""
    return select(*map(_param, table.c)).where(_users.c.id == _param(table.c.user_id))


def _reserve() -> ReturningInsert[Any]:
    """Builds the INSERT of a reservation. It locks the user's row, so that a balance read after it is exact."""
    row = _own_row(_reservations).with_for_update(key_share=True)
    return insert(_reservations).from_select(list(_reservations.c), row).returning(_reservations.c.id)


def _balance() -> Any:
    day, month = bindparam("day", type_=Date()), bindparam("month", type_=Date())
    row = union_all(_used(month), _reserved()).subquery().c
    periods, sums = (row.day == day, row.day >= month), (row.tokens, row.cost, row.characters, row.seconds)
    return select(
        *(func.sum(column).filter(period) for period in periods for column in sums), func.sum(row.reservations)
    )


def _used(month: BindParameter[Any]) -> Any:
    columns = _usage.c
    tokens: ColumnElement[int] = columns.input_tokens + columns.output_tokens
    spent = (tokens.label("tokens"), columns.cost, columns.characters, columns.seconds)
    used = select(columns.day, *spent, literal(0).label("reservations"))
    return used.where(columns.user_id == _param(columns.user_id), columns.day >= month)


def _reserved() -> Any:
    columns = _reservations.c
    counted = case((columns.feature == _param(columns.feature), 1), else_=0)
    reserved = select(columns.day, columns.tokens, columns.cost, columns.characters, columns.seconds, counted)
    alive = columns.created_at > bindparam("stale", type_=columns.created_at.type)
    return reserved.where(columns.user_id == _param(columns.user_id), alive)


def _release() -> ReturningDelete[Any]:
    columns = _reservations.c
    mine = (columns.user_id == _param(columns.user_id), columns.id == _param(columns.id))
    return delete(_reservations).where(*mine).returning(columns.day)


def _add(into: postgresql.Insert | sqlite.Insert) -> Insert:
    """Builds the INSERT of usage, which adds to the day's row if there is one; costs that are unknown add nothing."""
    row = into.from_select(list(_usage.c), _own_row(_usage))
    sums = {name: _usage.c[name] + row.excluded[name] for name in _COUNTED}
    cost = func.coalesce(_usage.c.cost + row.excluded.cost, _usage.c.cost, row.excluded.cost)
    return row.on_conflict_do_update(index_elements=["user_id", "day", "feature", "model"], set_={**sums, "cost": cost})


_COUNTED = ("requests", "input_tokens", "output_tokens", "characters", "seconds")
_RESERVE, _BALANCE, _RELEASE = _reserve(), _balance(), _release()
_ADD = {"postgresql": _add(postgresql.insert(_usage)), "sqlite": _add(sqlite.insert(_usage))}
