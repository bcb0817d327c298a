from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import SECRET, Base
from app.models.usage import DOLLARS

PENDING = sa.text("status = 'pending'")
"""Selects pending replies. It is literal SQL, since PostgreSQL's cached plans cannot use the index with a parameter."""


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
    """Stores one message. It belongs to the owner of its conversation and is reached only through it."""

    __tablename__ = "messages"
    __table_args__ = (
        sa.UniqueConstraint("conversation_id", "position"),
        sa.Index("ix_messages_pending", "process_id", sqlite_where=PENDING, postgresql_where=PENDING),
    )

    conversation_id: Mapped[UUID] = mapped_column(sa.ForeignKey("conversations.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Counts 1, 2, 3 … within the conversation, in the order in which messages were stored."""
    parent_id: Mapped[UUID | None] = mapped_column(index=True)
    """Identifies the message that it follows; the conversation itself, if it is a first message. None in what versions
    before 0.2 stored: the message at the position before. No foreign key, since they are deleted together."""
    role: Mapped[Role]
    status: Mapped[MessageStatus]
    content: Mapped[str] = mapped_column(sa.Text)
    stored_parts: Mapped[list[dict[str, Any]] | None] = mapped_column("parts", sa.JSON(none_as_null=True))
    """Holds what it consists of; None where that is the text alone. Reasoning alone is followed by the text."""
    entries: Mapped[list[dict[str, Any]] | None] = mapped_column(sa.JSON(none_as_null=True), info=SECRET, deferred=True)
    """Holds an agent's tool calls and their results as the model needs them again."""
    history_tokens: Mapped[int | None]
    """Estimates the tokens of the entries, so that they are read only where they fit."""
    shortened_tokens: Mapped[int | None]
    """Estimates the tokens that are left of the entries where long results are shortened."""
    summary: Mapped[str | None] = mapped_column(sa.Text, deferred=True)
    """Sums up all that comes before it in its branch, where a model wrote that for later histories."""
    agent_id: Mapped[UUID | None]
    """Identifies the agent that answers. No foreign key, as for `execution_id`: messages outlive both."""
    execution_id: Mapped[UUID | None]
    """Identifies the execution in which the agent writes this reply."""
    process_id: Mapped[UUID | None]
    """Identifies the process that generates a pending reply. No foreign key, since messages outlive processes."""
    stop_requested: Mapped[bool] = mapped_column(default=False)
    code: Mapped[str | None] = mapped_column(sa.String(64))
    """Names the reason why it failed or ended early."""
    detail: Mapped[str | None] = mapped_column(sa.String(500))
    model: Mapped[str | None] = mapped_column(sa.String(200))
    """Names the model that answered, as `provider:name` or `demo`."""
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost: Mapped[Decimal | None] = mapped_column(DOLLARS)
    """Holds US dollars; None where the price is not known."""
    rating: Mapped[Rating | None]
    comment: Mapped[str | None] = mapped_column(sa.Text)

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        return parts_of(self.stored_parts, self.content)

    @property
    def usage(self) -> "Message | None":
        """Returns the message itself, from which `UsageRead` is made; None if no model was asked."""
        return None if self.model is None else self

    @property
    def feedback(self) -> "Message | None":
        """Returns the message itself, from which `FeedbackRead` is made; None if it was not rated."""
        return None if self.rating is None else self


def parts_of(stored: Sequence[Mapping[str, Any]] | None, content: str) -> Sequence[Mapping[str, Any]]:
    """Returns what a message consists of: its text, after its reasoning, where nothing else is stored."""
    if stored and any(part["type"] != "reasoning" for part in stored):
        return stored
    return [*(stored or ()), {"type": "text", "text": content}] if content else stored or []
