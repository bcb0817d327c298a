from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas.base import Body, Read, Words

Title = Annotated[Words, Field(min_length=1, max_length=200)]


class ConversationCreate(Body):
    title: Title = "New conversation"


class ConversationUpdate(Body):
    title: Title


class ConversationRead(Read):
    id: UUID
    title: str
    created_at: datetime
    updated_at: datetime
