import structlog

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import Conflict, Invalid
from app.core.rate_limits import RateLimits
from app.core.security import EmailTokens, InvalidToken, Passwords
from app.models.user import EmailPurpose
from app.repositories.credential import ApiKeyRepository, EmailTokenRepository, SessionRepository
from app.repositories.principal import Principal
from app.repositories.user import UserRepository
from app.schemas.user import PasswordChange, PasswordReset
from app.services.email.messages import AccountEmails

_CHANGED = "The password of your account was changed."

log = structlog.stdlib.get_logger("app.security")


class WrongPassword(Invalid):
    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class PasswordService:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        passwords: Passwords,
        emails: AccountEmails,
        rate_limits: RateLimits,
    ) -> None:
        self._tokens = EmailTokens(settings)
        self._database = database
        self._passwords = passwords
        self._emails = emails
        self._rate_limits = rate_limits

    async def change(self, user: Principal, data: PasswordChange) -> None:
        """Changes the password and ends the user's other sessions. Raises TooManyRequests, WrongPassword, Conflict."""
        await self._rate_limits.count_password_attempt(user.email, user.credential_id)
        async with self._database.read() as session:
            known = (await UserRepository(session).get(user.id)).hashed_password
        if not await self._passwords.verify(data.current_password, known, user.email):
            log.warning("password not changed", user_id=str(user.id))
            raise WrongPassword
        await self._rate_limits.clear_password_attempts(user.email, user.credential_id)
        hashed = await self._passwords.hash(data.new_password, user.email)
        async with self._database.write(user.id) as session:
            users = UserRepository(session)
            current = await users.get(user.id, lock=True)
            if current.hashed_password != known:
                raise Conflict("The password has just been changed by another request.")
            await users.update(current, {"hashed_password": hashed})
            await SessionRepository(session, user.id).end_all(but=user.credential_id)
            await EmailTokenRepository(session, user.id).void()
            await self._emails.notify(session, user.id, user.email, _CHANGED)
        log.info("password changed", user_id=str(user.id))

    async def forgot(self, email: str) -> None:
        """Mails a token, and behaves the same and takes as long without such an account. Raises TooManyRequests."""
        await self._rate_limits.mail()
        log.info("password reset requested")
        await self._emails.reset(email)

    async def reset(self, data: PasswordReset) -> None:
        """Sets a password and ends all sessions and API keys, which may have been stolen, too. Raises InvalidToken."""
        await self._rate_limits.use_token()
        _, user_id, id = self._tokens.read(data.token, EmailPurpose.reset)
        hashed = await self._passwords.hash(data.password, str(user_id))
        async with self._database.write(user_id) as session:
            user = await UserRepository(session).find(user_id, lock=True)
            tokens = EmailTokenRepository(session, user_id)
            email = await tokens.consume(id, EmailPurpose.reset)
            if user is None or not user.is_active or user.email != email:
                raise InvalidToken
            user.hashed_password, user.email_verified = hashed, True  # the token was mailed to it
            await SessionRepository(session, user_id).end_all()
            await ApiKeyRepository(session, user_id).delete_all()
            await tokens.void()
            await self._emails.notify(session, user_id, user.email, _CHANGED)
        await self._rate_limits.clear_password_attempts(user.email)
        log.info("password reset", user_id=str(user_id))
