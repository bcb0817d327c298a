from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import SECRET, Owned

KEY_CHARACTERS = 200


class IdempotencyKey(Owned):
    """Remembers a request that must take effect once however often it is sent, and what it created."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (sa.UniqueConstraint("user_id", "key"), sa.Index(None, "created_at"))

    key: Mapped[str] = mapped_column(sa.String(KEY_CHARACTERS))
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    """Holds a hash of the request, which tells whether another one with the same key asks for the same."""
    subject_id: Mapped[UUID]
    answer: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True), info=SECRET, deferred=True)
    """Holds what was answered, where nothing else does."""
    process_id: Mapped[UUID | None]
    """Identifies the process that works on such an answer, or did."""
