from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned

KEY_CHARACTERS = 200


class IdempotencyKey(Owned):
    """A request that must have one effect however often it is sent, and what it made."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (sa.UniqueConstraint("user_id", "key"), sa.Index(None, "created_at"))

    key: Mapped[str] = mapped_column(sa.String(KEY_CHARACTERS))
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    """Of what was asked."""
    subject_id: Mapped[UUID]
