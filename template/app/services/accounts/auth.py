from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import Unauthenticated
from app.core.rate_limits import RateLimits
from app.core.security import API_KEY_START, AccessTokens, Passwords, fingerprint
from app.models.base import now
from app.models.user import ApiKey, User, UserSession
from app.repositories.credential import CredentialRepository
from app.repositories.principal import Principal, PrincipalRepository
from app.repositories.user import UserRepository
from app.schemas.email_address import normalize_email
from app.schemas.user import Tokens
from app.services.accounts.sessions import SessionTokens

NOTE_USE_AFTER = timedelta(minutes=5)

log = structlog.stdlib.get_logger("app.security")


class AuthService:
    def __init__(self, settings: Settings, database: Database, passwords: Passwords, rate_limits: RateLimits) -> None:
        self._settings = settings
        self._tokens = AccessTokens(settings)
        self._database = database
        self._passwords = passwords
        self.rate_limits = rate_limits

    async def login(
        self, email: str, password: str, user_agent: str | None, previous_token: str | None = None
    ) -> Tokens:
        """Opens a session. Raises TooManyRequests; Unauthenticated, with the same text and delay whatever was wrong."""
        address = normalize_email(email)
        account = address or email
        await self.rate_limits.log_in()
        async with self._database.read() as session:
            user = await UserRepository(session).find_by_email(address) if address else None
        device = self._known_device(user, previous_token)
        await self.rate_limits.count_password_attempt(
            account, device
        )  # as it is stored: other spellings count as the same
        spelling = await self._passwords.find_spelling(password, user.hashed_password if user else None, account)
        if user is None or spelling is None or not user.is_active:
            log.warning("log-in failed", user_id=user and str(user.id))
            raise Unauthenticated("The e-mail address or the password is wrong.")
        await self.rate_limits.clear_password_attempts(user.email, device)
        return await self._open(user, await self._renewed_hash(user, spelling), user_agent)

    async def refresh(self, token: str) -> Tokens:
        """Replaces the tokens of a session. Raises TooManyRequests, Unauthenticated."""
        await self.rate_limits.refresh()
        return await SessionTokens(self._settings, self._database).refresh(token)

    async def identify(self, token: str) -> Principal:
        """Returns who holds this access token or API key. Raises Unauthenticated."""
        is_key = token.startswith(API_KEY_START)
        principal = await (self._find_by_key(token) if is_key else self._find_by_session(token))
        if principal.last_used_at is None or now() - principal.last_used_at > NOTE_USE_AFTER:
            await self._note_use(ApiKey if is_key else UserSession, principal.credential_id)
        return principal

    async def _note_use(self, kind: type[ApiKey | UserSession], credential_id: UUID) -> None:
        """Stores when it was used; called seldom, so that reads rarely write. A failure does not fail the request."""
        try:
            async with self._database.write() as session:
                await CredentialRepository(session).note_use(kind, credential_id)
        except SQLAlchemyError as error:
            log.warning("credential use write failed", error=type(error).__name__)

    async def _find_by_session(self, token: str) -> Principal:
        user_id, session_id = self._tokens.read(token)
        async with self._database.rows() as connection:
            principal = await PrincipalRepository(connection).find_by_session(user_id, session_id)
        if principal is None:
            raise Unauthenticated("The session has ended; log in again.")
        return principal

    async def _find_by_key(self, key: str) -> Principal:
        async with self._database.rows() as connection:
            principal = await PrincipalRepository(connection).find_by_api_key(fingerprint(key))
        if principal is None:
            raise Unauthenticated("The API key is not valid.")
        return principal

    def _known_device(self, user: User | None, previous_token: str | None) -> UUID | None:
        """Returns the id of the session that a token of this user was issued for, however long ago."""
        claims = self._tokens.recognize(previous_token) if previous_token else None
        return claims[1] if user and claims and claims[0] == user.id else None

    async def _renewed_hash(self, user: User, spelling: str) -> str | None:
        """Hashes the password anew if its stored hash is outdated; else returns None."""
        outdated = self._passwords.is_outdated(user.hashed_password, spelling)
        return await self._passwords.hash(spelling, user.email) if outdated else None

    async def _open(self, user: User, renewed_hash: str | None, user_agent: str | None) -> Tokens:
        """Opens a session. Raises Unauthenticated when the account has changed since its password was verified."""
        async with self._database.write(user.id) as session:
            users = UserRepository(session)
            current = await users.find(user.id, lock=True)
            if current is None or not current.is_active or current.hashed_password != user.hashed_password:
                raise Unauthenticated("The account has just been changed; log in again.")
            if renewed_hash:
                await users.update(current, {"hashed_password": renewed_hash})
            login, tokens = await SessionTokens(self._settings, self._database).open(session, user.id, user_agent)
        log.info("log-in succeeded", user_id=str(user.id), session_id=str(login.id), rehashed=renewed_hash is not None)
        return tokens
