"""Reads who is calling. Every request does, so it reads columns, not ORM objects, by statements built once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from app.models.base import now
from app.models.user import ApiKey, User, UserSession

Scopes = Sequence[str] | None
"""Lists what an API key may do; None for a person who has logged in."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Describes who is calling, by which session or API key. A field named like a column of `users` is that column."""

    id: UUID
    email: str
    full_name: str | None
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime
    credential_id: UUID
    """Identifies the session or the API key."""
    last_used_at: datetime | None
    scopes: Scopes = None
    """Lists what an API key may be used for; None for a session, which may do all that its user may."""

    @property
    def may_read(self) -> bool:
        """Tells whether the caller may read data about the user: an API key needs the scope `read` for that."""
        return self.scopes is None or "read" in self.scopes


class PrincipalRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find_by_session(self, user_id: UUID, session_id: UUID) -> Principal | None:
        """Returns who is calling; None unless the user is active and the session has neither ended nor expired."""
        return await self._find(_BY_SESSION, {"user_id": user_id, "session_id": session_id})

    async def find_by_api_key(self, hashed_key: str) -> Principal | None:
        """Returns who is calling; None unless the user is active and the key has not expired."""
        return await self._find(_BY_API_KEY, {"hashed_key": hashed_key})

    async def _find(self, query: Select[*tuple[Any, ...]], values: dict[str, Any]) -> Principal | None:
        found = await self._connection.execute(query, {**values, "now": now()})
        row = found.mappings().one_or_none()
        return Principal(**row) if row else None


def _who(credential: type[UserSession | ApiKey], *more: InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
    columns = User.__table__.c
    of_user = (columns[field.name] for field in fields(Principal) if field.name in columns)
    return (
        select(*of_user, credential.id.label("credential_id"), credential.last_used_at, *more)
        .join(credential, credential.user_id == User.id)
        .where(User.is_active, credential.expires_at > bindparam("now", type_=credential.expires_at.type))
    )


_BY_SESSION = _who(UserSession).where(User.id == bindparam("user_id"), UserSession.id == bindparam("session_id"))
_BY_API_KEY = _who(ApiKey, ApiKey.scopes).where(ApiKey.hashed_key == bindparam("hashed_key"))
