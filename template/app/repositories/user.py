from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from app.models.base import now
from app.models.user import User, UserSession
from app.repositories.base import BaseRepository, OwnedRepository


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and by which log-in. Columns in place of a row: this is read on every request."""

    id: UUID
    email: str
    full_name: str | None
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime
    session_id: UUID


class UserRepository(BaseRepository[User]):
    model = User

    async def find_by_email(self, email: str) -> User | None:
        return await self._session.scalar(select(User).where(User.email == email))

    async def find_principal(self, user_id: UUID, session_id: UUID) -> Principal | None:
        """None unless the user is active and the session has neither ended nor expired."""
        principal = (
            select(
                User.id,
                User.email,
                User.full_name,
                User.is_active,
                User.is_superuser,
                User.email_verified,
                User.created_at,
                UserSession.id,
            )
            .join(UserSession, UserSession.user_id == User.id)
            .where(User.id == user_id, User.is_active, UserSession.id == session_id, UserSession.expires_at > now())
        )
        row = (await self._session.execute(principal)).one_or_none()
        return Principal(*row) if row else None


class SessionRepository(OwnedRepository[UserSession]):
    model = UserSession
