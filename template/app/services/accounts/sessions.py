from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import Unauthenticated
from app.core.security import AccessTokens, fingerprint, new_secret
from app.models.base import now
from app.models.user import UserSession
from app.repositories.credential import RefreshTokenRepository, SessionRepository
from app.repositories.principal import Principal
from app.schemas.base import PageRead
from app.schemas.user import SessionRead, Tokens

SUPERSEDED_SECONDS = 10
"""Tolerates a replaced refresh token for so long, in which two tabs of a browser may use the same one."""

log = structlog.stdlib.get_logger("app.security")


class RefreshSuperseded(Unauthenticated):
    """Reports that another tab, or an attempt whose answer was lost, was faster; the session keeps the newer token."""

    code = "refresh_superseded"


class SessionService:
    """Lists and ends one person's sessions. Ending one makes its access and refresh tokens invalid at once."""

    def __init__(self, database: Database, user: Principal) -> None:
        self._database = database
        self._user = user

    async def list(self, limit: int, cursor: UUID | None) -> PageRead[SessionRead]:
        async with self._database.read() as session:
            page = await SessionRepository(session, self._user.id).list(limit, cursor, UserSession.expires_at > now())
        return PageRead(items=[self._read(row) for row in page.items], next_cursor=page.next_cursor)

    async def end(self, id: UUID) -> None:
        """Ends a session. Raises NotFound."""
        async with self._database.write(self._user.id) as session:
            sessions = SessionRepository(session, self._user.id)
            await sessions.delete(await sessions.get(id, lock=True))
        log.info("session ended", user_id=str(self._user.id), session_id=str(id))

    def _read(self, row: UserSession) -> SessionRead:
        return SessionRead.model_validate({**vars(row), "current": row.id == self._user.credential_id})


class SessionTokens:
    """Opens sessions, and issues and replaces their tokens."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._lifetime = timedelta(minutes=settings.access_token_expire_minutes)
        self._idle = timedelta(days=settings.refresh_token_expire_days)
        self._longest = timedelta(days=settings.session_max_days)
        self._access_tokens = AccessTokens(settings)
        self._database = database

    async def open(self, session: AsyncSession, user_id: UUID, user_agent: str | None) -> tuple[UserSession, Tokens]:
        """Opens a session of a user in this transaction, with its first tokens."""
        login = await SessionRepository(session, user_id).create(
            expires_at=now() + self._idle, user_agent=user_agent and user_agent[:400]
        )
        return login, await self._issue(session, login)

    async def refresh(self, token: str) -> Tokens:
        """Replaces the tokens of a session. Raises Unauthenticated.

        A token that was replaced more than SUPERSEDED_SECONDS ago ends the session for good.
        """
        hashed = fingerprint(token)
        async with self._database.write() as session:
            tokens = RefreshTokenRepository(session)
            login = await tokens.find_session(hashed)
            if login is None:
                raise Unauthenticated("The refresh token is not valid; log in again.")
            rotated_at = await tokens.rotate(hashed)
            if rotated_at is None:
                return await self._issue(session, login)
            if now() - rotated_at < timedelta(seconds=SUPERSEDED_SECONDS):
                raise RefreshSuperseded("This refresh token has just been replaced by another.")
            await SessionRepository(session, login.user_id).delete(login)
        log.warning("refresh token reused", user_id=str(login.user_id), session_id=str(login.id))
        raise Unauthenticated("This refresh token was used before, so its session has ended; log in again.")

    async def _issue(self, session: AsyncSession, login: UserSession) -> Tokens:
        """Issues a new pair of tokens and postpones the end of the session."""
        login.last_used_at = now()
        login.expires_at = min(now() + self._idle, login.created_at + self._longest)
        secret = new_secret()
        await RefreshTokenRepository(session).create(session_id=login.id, hashed_token=fingerprint(secret))
        expires_at = min(now() + self._lifetime, login.expires_at)
        return Tokens(
            access_token=self._access_tokens.issue(login.user_id, login.id, expires_at),
            refresh_token=secret,
            expires_in=int((expires_at - now()).total_seconds() + 0.5),
        )
