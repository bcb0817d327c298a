from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base
from app.models.usage import DOLLARS

PENDING = sa.text("status = 'pending'")
"""A parameter in its place would keep PostgreSQL from the index in a plan that it uses again."""


class Role(StrEnum):
    user = "user"
    assistant = "assistant"
    system = "system"
    tool = "tool"


class MessageStatus(StrEnum):
    pending = "pending"
    completed = "completed"
    stopped = "stopped"
    failed = "failed"
    interrupted = "interrupted"


class Rating(StrEnum):
    up = "up"
    down = "down"


class Message(Base):
    """Belongs to whoever owns its conversation, and is reached only through it."""

    __tablename__ = "messages"
    __table_args__ = (
        sa.UniqueConstraint("conversation_id", "position"),
        sa.Index("ix_messages_pending", "process_id", sqlite_where=PENDING, postgresql_where=PENDING),
    )

    conversation_id: Mapped[UUID] = mapped_column(sa.ForeignKey("conversations.id", ondelete="CASCADE"))
    position: Mapped[int]
    """1, 2, 3 … within the conversation."""
    role: Mapped[Role]
    status: Mapped[MessageStatus]
    content: Mapped[str] = mapped_column(sa.Text)
    process_id: Mapped[UUID | None]
    """Who speaks it, while it is pending. No foreign key: what was said stays when that process is forgotten."""
    stop_requested: Mapped[bool] = mapped_column(default=False)
    code: Mapped[str | None] = mapped_column(sa.String(64))
    """Why it failed or ended early."""
    detail: Mapped[str | None] = mapped_column(sa.String(500))
    model: Mapped[str | None] = mapped_column(sa.String(200))
    """Which one answered, as `provider:name` or `demo`."""
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost: Mapped[Decimal | None] = mapped_column(DOLLARS)
    """In US dollars; None where the price is not known."""
    rating: Mapped[Rating | None]
    comment: Mapped[str | None] = mapped_column(sa.Text)

    @property
    def usage(self) -> "Message | None":
        """Itself, as far as it is known what it cost."""
        return None if self.model is None else self

    @property
    def feedback(self) -> "Message | None":
        """Itself, if it was rated."""
        return None if self.rating is None else self
