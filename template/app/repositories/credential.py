"""Reads and writes credentials besides passwords: sessions, refresh tokens, API keys and tokens sent by e-mail."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import now
from app.models.user import ApiKey, EmailPurpose, EmailToken, RefreshToken, User, UserSession
from app.repositories.base import BaseRepository, OwnedRepository, delete_of_users


class SessionRepository(OwnedRepository[UserSession]):
    """Reads and deletes one user's sessions, whose refresh tokens are deleted with them."""

    model = UserSession

    async def end_all(self, *, but: UUID | None = None) -> None:
        others = delete(UserSession).where(UserSession.user_id == self._user_id)
        await self._session.execute(others if but is None else others.where(UserSession.id != but))


class RefreshTokenRepository(BaseRepository[RefreshToken]):
    model = RefreshToken

    async def find_session(self, hashed_token: str) -> UserSession | None:
        """Locks and returns the token's session; None when it ended or expired, or its user is inactive."""
        session_id = select(RefreshToken.session_id).where(RefreshToken.hashed_token == hashed_token).scalar_subquery()
        alive = (
            select(UserSession)
            .join(User, User.id == UserSession.user_id)
            .where(UserSession.id == session_id, UserSession.expires_at > now(), User.is_active)
        )
        return await self._session.scalar(alive.with_for_update(of=UserSession))

    async def rotate(self, hashed_token: str) -> datetime | None:
        """Marks the token as replaced, once. Returns the time when it was replaced before, else None."""
        mine = RefreshToken.hashed_token == hashed_token
        replaced = update(RefreshToken).where(mine, RefreshToken.rotated_at.is_(None)).values(rotated_at=now())
        if await self._session.scalar(replaced.returning(RefreshToken.id)):
            return None
        return await self._session.scalar(select(RefreshToken.rotated_at).where(mine))


class ApiKeyRepository(OwnedRepository[ApiKey]):
    model = ApiKey

    async def delete_all(self) -> None:
        await self._session.execute(delete(ApiKey).where(ApiKey.user_id == self._user_id))


class EmailTokenRepository(OwnedRepository[EmailToken]):
    model = EmailToken

    async def consume(self, id: UUID, purpose: EmailPurpose) -> str | None:
        """Deletes the token and returns the address that it was sent to; None when it expired, was used or replaced."""
        used = (
            delete(EmailToken)
            .where(self._mine(), EmailToken.id == id, EmailToken.purpose == purpose, EmailToken.expires_at > now())
            .returning(EmailToken.email)
        )
        return await self._session.scalar(used)

    async def void(self, purpose: EmailPurpose | None = None) -> None:
        """Deletes the user's tokens of one purpose, or all of them."""
        every = delete(EmailToken).where(self._mine())
        await self._session.execute(every if purpose is None else every.where(EmailToken.purpose == purpose))

    def _mine(self) -> ColumnElement[bool]:
        return EmailToken.user_id == self._user_id


class CredentialRepository:
    """Updates and deletes credentials of all users, for what the application does by itself."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def note_use(self, kind: type[UserSession | ApiKey], id: UUID) -> None:
        await self._session.execute(update(kind).where(kind.id == id).values(last_used_at=now()))

    async def delete_expired(self) -> None:
        for kind in (UserSession, ApiKey, EmailToken):
            await delete_of_users(self._session, kind, kind.expires_at <= now())
