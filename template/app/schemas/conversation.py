from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas.base import Body, NotNull, Read, Words

Title = Annotated[Words, Field(min_length=1, max_length=200)]


NEW_TITLE = "New conversation"
"""Stands until the first message, whose beginning becomes the title."""


class ConversationCreate(Body):
    title: Title = NEW_TITLE


class ConversationUpdate(Body):
    """Replaces the fields that are sent, and leaves the others as they are."""

    title: NotNull[Title] = None
    pinned: NotNull[bool] = None
    archived: NotNull[bool] = None
    active_message_id: NotNull[UUID] = None
    """Shows the branch with this message, to its newest end."""


class ConversationRead(Read):
    id: UUID
    title: str
    pinned: bool
    archived: bool
    active_message_id: UUID | None
    """Identifies the last message of the branch that is shown; null as long as there is only one branch."""
    created_at: datetime
    updated_at: datetime
