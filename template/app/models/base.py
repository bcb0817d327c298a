"""Defines what all tables share: primary keys, timestamps and names of constraints."""

from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from uuid_utils.compat import uuid7

SECRET = {"secret": True}
"""Marks a column, as `info=SECRET`, that never leaves the server, such as a hash of a password or token."""


def now() -> datetime:
    return datetime.now(UTC)


class UTCDateTime(sa.types.TypeDecorator[datetime]):
    """Stores datetimes as UTC and returns them with a time zone, which SQLite alone would lose."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        return value and (value if value.tzinfo else value.replace(tzinfo=UTC))


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime(),
        # Enums are names in a VARCHAR without a CHECK constraint, so that a new value needs no migration.
        StrEnum: sa.Enum(Enum, native_enum=False, create_constraint=False, length=32),
    }

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-2)
    created_at: Mapped[datetime] = mapped_column(default=now, sort_order=-1)


class Owned(Base):
    """Belongs to one user and is deleted with that user. Read its rows through `OwnedRepository`."""

    __abstract__ = True

    @declared_attr
    def user_id(cls) -> Mapped[UUID]:
        return mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
