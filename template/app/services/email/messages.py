from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from app.core.config import Settings
from app.core.database import Database
from app.core.rate_limits import TooManyRequests
from app.core.security import EmailTokens
from app.models.base import now
from app.models.user import EmailPurpose
from app.repositories.credential import EmailTokenRepository
from app.repositories.user import UserRepository
from app.services.email.mailer import Letter, Outbox, Write

_VERIFY = """\
Somebody, hopefully you, made an account with this address. To confirm that it is yours, follow this link:

{link}

If it was not you, do nothing."""
_RESET = """\
Somebody, hopefully you, asked for a new password. To choose one, follow this link:

{link}

If it was not you, do nothing: your password stays as it is."""
_CHANGE = """\
Somebody, hopefully you, asked to use this address for an account. To confirm it, follow this link:

{link}

If it was not you, do nothing."""
_LIFETIME = "The link works once, within the next {minutes} minutes. Without a web page, its token is:\n\n{token}\n"
_CHANGED = """\
{what} If it was not you, choose a new password at once: {app_url}
"""

log = structlog.stdlib.get_logger("app.security")


class AccountEmails:
    """What people get by mail, one method for each kind.

    A letter that was asked for raises TooManyRequests when its recipient has got enough; any other is dropped.
    """

    def __init__(self, settings: Settings, database: Database, outbox: Outbox) -> None:
        self._app_name = settings.app_name
        self._app_url = settings.app_url
        self._minutes = settings.email_token_expire_minutes
        self._tokens = EmailTokens(settings)
        self._database = database
        self._outbox = outbox

    async def welcome(self, user_id: UUID, email: str) -> None:
        """To a new account, to confirm its address."""
        await self._post_unasked(email, partial(self._link, user_id, email, EmailPurpose.verify))

    async def verify(self, user_id: UUID, email: str) -> None:
        """The same again. Raises TooManyRequests."""
        await self._outbox.post(email, partial(self._link, user_id, email, EmailPurpose.verify))

    async def reset(self, email: str) -> None:
        """To the account of this address, if there is one that is active. Raises TooManyRequests."""
        await self._outbox.post(email, partial(self._reset, email))

    async def change(self, user_id: UUID, email: str) -> None:
        """To a new address, unless another account has it. Raises TooManyRequests."""
        await self._outbox.post(email, partial(self._change, user_id, email))

    async def tell(self, email: str, what: str) -> None:
        """That something was done, to whom it may surprise."""
        await self._post_unasked(email, partial(self._notice, what))

    async def _post_unasked(self, email: str, write: Write) -> None:
        with suppress(TooManyRequests):  # which the outbox has logged
            await self._outbox.post(email, write)

    async def _notice(self, what: str) -> Letter:
        text = _CHANGED.format(what=what, app_url=self._app_url)
        return Letter(f"{self._app_name}: your account was changed", text)

    async def _reset(self, email: str) -> Letter | None:
        async with self._database.read() as session:
            user = await UserRepository(session).find_by_email(email)
        log.info("password forgotten", user_id=user and str(user.id))
        if user is None or not user.is_active:
            return None
        return await self._link(user.id, email, EmailPurpose.reset)

    async def _change(self, user_id: UUID, email: str) -> Letter | None:
        async with self._database.read() as session:
            taken = await UserRepository(session).find_by_email(email)
        return None if taken else await self._link(user_id, email, EmailPurpose.change)

    async def _link(self, user_id: UUID, email: str, purpose: EmailPurpose) -> Letter | None:
        """Void what was sent for the same purpose before: only the newest letter counts."""
        expires_at = now() + timedelta(minutes=self._minutes)
        async with self._database.write(user_id) as session:
            if await UserRepository(session).find(user_id, lock=True) is None:
                return None  # who asked has left since
            tokens = EmailTokenRepository(session, user_id)
            await tokens.void(purpose)
            row = await tokens.create(purpose=purpose, email=email, expires_at=expires_at)
        token = self._tokens.issue(user_id, row.id, purpose, expires_at)
        return self._with_token(purpose, token)

    def _with_token(self, purpose: EmailPurpose, token: str) -> Letter:
        text, subject, page = {
            EmailPurpose.verify: (_VERIFY, "confirm your address", "verify-email"),
            EmailPurpose.reset: (_RESET, "choose a new password", "reset-password"),
            EmailPurpose.change: (_CHANGE, "confirm your new address", "verify-email"),
        }[purpose]
        # Behind #, which browsers send to no server, so that the token is in nobody's log.
        link = f"{self._app_url}/{page}#token={token}"
        lifetime = _LIFETIME.format(minutes=self._minutes, token=token)
        return Letter(f"{self._app_name}: {subject}", f"{text.format(link=link)}\n\n{lifetime}")
