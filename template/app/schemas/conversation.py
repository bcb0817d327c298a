from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas.base import Body, NotNull, Read, Words
from app.schemas.message import ModelName

Title = Annotated[Words, Field(min_length=1, max_length=200)]


NEW_TITLE = "New conversation"
"""Stands until the first message, whose beginning becomes the title."""


QUERY_CHARACTERS = 200
SearchQuery = Annotated[Words, Field(max_length=QUERY_CHARACTERS)]
"""Accepts the words of a search."""


class ConversationCreate(Body):
    title: Title = NEW_TITLE
    agent_id: UUID | None = None
    """Lets this agent answer; without it a model that has no tools does."""
    model: ModelName | None = None
    """Names the model that answers; without it that of the agent, or the first that `/info` lists."""


class ConversationUpdate(Body):
    """Replaces the fields that are sent, and leaves the others as they are."""

    title: NotNull[Title] = None
    pinned: NotNull[bool] = None
    archived: NotNull[bool] = None
    agent_id: UUID | None = None
    """Lets this agent answer from now on; null ends that."""
    model: ModelName | None = None
    """Names the model that answers from now on; null leaves it to the agent, or to the first that `/info` lists."""
    active_message_id: NotNull[UUID] = None
    """Shows the branch with this message, to its newest end."""


class ConversationRead(Read):
    id: UUID
    title: str
    pinned: bool
    archived: bool
    agent_id: UUID | None
    model: str | None
    active_message_id: UUID | None
    """Identifies the last message of the branch that is shown; null as long as there is only one branch."""
    created_at: datetime
    updated_at: datetime


class ConversationListRead(ConversationRead):
    snippet: str | None
    """Shows the text around the words of a search, as it was written; null if only the title has them."""
