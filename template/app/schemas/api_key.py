from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AliasChoices, Field

from app.schemas.base import Body, Read, Words

Scope = Annotated[str, Field(min_length=1, max_length=50)]


class ApiKeyCreate(Body):
    name: Annotated[Words, Field(max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)]
    """Allows what it lists: `read` for every GET request, or the tags of the paths that the key may use."""
    expires_in_days: Annotated[int, Field(ge=1, le=365)] = 90


class ApiKeyRead(Read):
    id: UUID
    name: str
    start: Annotated[str, Field(validation_alias=AliasChoices("prefix", "start"))]
    """Shows how the key begins."""
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    """Holds a time that is accurate to a few minutes."""


class ApiKeyCreated(ApiKeyRead):
    key: str
    """Shows the whole key, which is not shown again."""
