from datetime import datetime
from typing import cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned, now

CURRENT, ARCHIVED = sa.text("archived_at IS NULL"), sa.text("archived_at IS NOT NULL")
PINNED = sa.text("pinned")
"""Selects conversations that are listed apart. Queries repeat it literally, else databases use no partial index."""

CLIENT_ID_CHARACTERS = 64


class Conversation(Owned):
    """Holds messages, each of which follows another: together they are a tree, of which one branch is shown."""

    __tablename__ = "conversations"
    __table_args__ = (
        sa.Index("ix_conversations_client_id", "user_id", "client_id", unique=True),
        *(
            sa.Index(f"ix_conversations_{name}", "user_id", "last_message_id", sqlite_where=of, postgresql_where=of)
            for name, of in (("current", CURRENT), ("archived", ARCHIVED), ("pinned", PINNED))
        ),
    )

    title: Mapped[str] = mapped_column(sa.String(200))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    last_message_id: Mapped[UUID | None]
    """Orders lists: the newest message of all branches, before the first one its own id. No foreign key, as below."""
    active_message_id: Mapped[UUID | None]
    """Identifies the last message of the branch that is shown; None as long as there is only one branch."""
    agent_id: Mapped[UUID | None]
    """Identifies the agent that answers where a message names none; None: a model without tools. No foreign key."""
    model: Mapped[str | None] = mapped_column(sa.String(200))
    """Names the model that answers where a message names none; None: the agent's, or the first that is configured."""
    client_id: Mapped[str | None] = mapped_column(sa.String(CLIENT_ID_CHARACTERS))
    """Holds the id that a client has given it, which made one up before it sent anything."""
    pinned: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    archived_at: Mapped[datetime | None]
    snippet = cast("str | None", None)
    """Holds the text around the words of a search that found it. It is not stored."""

    @property
    def archived(self) -> bool:
        return self.archived_at is not None
