import structlog
from sqlalchemy.exc import IntegrityError

from app.core.config import Settings
from app.core.database import Database
from app.core.rate_limits import RateLimits
from app.core.security import EmailTokens, InvalidToken, Passwords
from app.models.user import EmailPurpose
from app.repositories.credential import EmailTokenRepository
from app.repositories.principal import Principal
from app.repositories.user import UserRepository
from app.schemas.user import EmailChange
from app.services.accounts.passwords import WrongPassword
from app.services.accounts.users import EmailTaken, check_reachable
from app.services.email.messages import AccountEmails

_CHANGED = "The e-mail address of your account was changed."

log = structlog.stdlib.get_logger("app.security")


class EmailService:
    """Confirms and changes the e-mail addresses of accounts."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        passwords: Passwords,
        emails: AccountEmails,
        rate_limits: RateLimits,
    ) -> None:
        self._settings = settings
        self._tokens = EmailTokens(settings)
        self._database = database
        self._passwords = passwords
        self._emails = emails
        self._rate_limits = rate_limits

    async def resend(self, user: Principal) -> None:
        """Sends the confirmation again, unless the address is confirmed. Raises TooManyRequests."""
        await self._rate_limits.mail()
        if not user.email_verified:
            await self._emails.verify(user.id, user.email)

    async def change(self, user: Principal, data: EmailChange) -> None:
        """Mails a token to the new address, which is used once confirmed.

        Raises TooManyRequests, WrongPassword, ReservedDomain.
        """
        check_reachable(self._settings, data.email)
        await self._rate_limits.count_password_attempt(user.email, user.credential_id)
        async with self._database.read() as session:
            known = (await UserRepository(session).get(user.id)).hashed_password
        if not await self._passwords.verify(data.password, known, user.email):
            log.warning("e-mail not changed", user_id=str(user.id))
            raise WrongPassword
        await self._rate_limits.clear_password_attempts(user.email, user.credential_id)
        await self._rate_limits.mail()
        await self._emails.change(user.id, data.email)

    async def confirm(self, token: str) -> None:
        """Confirms an address. Raises TooManyRequests, InvalidToken; EmailTaken when another account has it by now."""
        await self._rate_limits.use_token()
        purpose, user_id, id = self._tokens.read(token, EmailPurpose.verify, EmailPurpose.change)
        try:
            async with self._database.write(user_id) as session:
                users, tokens = UserRepository(session), EmailTokenRepository(session, user_id)
                user = await users.find(user_id, lock=True)
                email = await tokens.consume(id, EmailPurpose(purpose))
                if user is None or email is None or not user.is_active:
                    raise InvalidToken
                before = user.email
                await users.update(user, {"email": email, "email_verified": True})
                if email != before:
                    await tokens.void()
                    await self._emails.notify(session, user_id, before, _CHANGED)
        except IntegrityError:
            raise EmailTaken("A user with this e-mail address exists.") from None
        log.info("e-mail confirmed", user_id=str(user_id), changed=email != before)
