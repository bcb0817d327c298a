from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select

from app.models.base import now
from app.models.user import ApiKey, User, UserSession
from app.repositories.base import BaseRepository

_WHO = (
    User.id,
    User.email,
    User.full_name,
    User.is_active,
    User.is_superuser,
    User.email_verified,
    User.created_at,
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and by which log-in or API key. Columns in place of a row: this is read on every request."""

    id: UUID
    email: str
    full_name: str | None
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime
    credential_id: UUID
    """The session's, or the API key's."""
    last_used_at: datetime | None
    scopes: Sequence[str] | None = None
    """What an API key may be used for; None for a session, which may do all that its user may."""


class UserRepository(BaseRepository[User]):
    model = User

    async def find_by_email(self, email: str) -> User | None:
        return await self._session.scalar(select(User).where(User.email == email))

    async def find_by_session(self, user_id: UUID, session_id: UUID) -> Principal | None:
        """None unless the user is active and the session has neither ended nor expired."""
        found = (
            select(*_WHO, UserSession.id, UserSession.last_used_at)
            .join(UserSession, UserSession.user_id == User.id)
            .where(User.id == user_id, User.is_active, UserSession.id == session_id, UserSession.expires_at > now())
        )
        return await self._principal(found)

    async def find_by_api_key(self, hashed_key: str) -> Principal | None:
        """None unless the user is active and the key has not expired."""
        found = (
            select(*_WHO, ApiKey.id, ApiKey.last_used_at, ApiKey.scopes)
            .join(ApiKey, ApiKey.user_id == User.id)
            .where(User.is_active, ApiKey.hashed_key == hashed_key, ApiKey.expires_at > now())
        )
        return await self._principal(found)

    async def lock_superusers(self) -> list[UUID]:
        """The active ones, whom nobody else can change until the transaction ends."""
        superusers = select(User.id).where(User.is_superuser, User.is_active).order_by(User.id).with_for_update()
        return list(await self._session.scalars(superusers))

    async def _principal(self, query: Any) -> Principal | None:
        row = (await self._session.execute(query)).one_or_none()
        return Principal(*row) if row else None


def matches(search: str) -> ColumnElement[bool]:
    """Part of the address or of the name, in whatever case."""
    return or_(User.email.icontains(search, autoescape=True), User.full_name.icontains(search, autoescape=True))
