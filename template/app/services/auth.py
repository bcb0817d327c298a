from datetime import timedelta

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import Unauthenticated
from app.core.security import AccessTokens, Passwords
from app.models.base import now
from app.repositories.user import Principal, SessionRepository, UserRepository
from app.schemas.user import AccessToken, normalize_email


class AuthService:
    def __init__(self, settings: Settings, database: Database, passwords: Passwords) -> None:
        self._lifetime = timedelta(minutes=settings.access_token_expire_minutes)
        self._tokens = AccessTokens(settings)
        self._database = database
        self._passwords = passwords

    async def login(self, email: str, password: str, user_agent: str | None) -> AccessToken:
        """Raises Unauthenticated, with the same words and after the same time whatever was wrong."""
        address = normalize_email(email)
        async with self._database.read() as session:
            user = await UserRepository(session).find_by_email(address) if address else None
        known = await self._passwords.verify(password, user.hashed_password if user else None)
        if user is None or not known or not user.is_active:
            raise Unauthenticated("The e-mail address or the password is wrong.")
        expires_at = now() + self._lifetime
        async with self._database.write() as session:
            login = await SessionRepository(session, user.id).create(
                expires_at=expires_at, user_agent=user_agent and user_agent[:400]
            )
        token = self._tokens.issue(user.id, login.id, expires_at)
        return AccessToken(access_token=token, expires_in=int(self._lifetime.total_seconds()))

    async def identify(self, token: str) -> Principal:
        """Who holds this access token. Raises Unauthenticated."""
        user_id, session_id = self._tokens.read(token)
        async with self._database.read() as session:
            principal = await UserRepository(session).find_principal(user_id, session_id)
        if principal is None:
            raise Unauthenticated("The session has ended; log in again.")
        return principal
