from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned

KEY_CHARACTERS = 200


class IdempotencyKey(Owned):
    """Remembers a request that must take effect once however often it is sent, and what it created."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (sa.UniqueConstraint("user_id", "key"), sa.Index(None, "created_at"))

    key: Mapped[str] = mapped_column(sa.String(KEY_CHARACTERS))
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    """Holds a hash of the request, which tells whether another one with the same key asks for the same."""
    subject_id: Mapped[UUID]
