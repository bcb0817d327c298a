from datetime import timedelta
from uuid import UUID

import structlog

from app.core.config import Settings
from app.core.database import Database
from app.core.security import EmailTokens
from app.models.base import now
from app.models.user import EmailPurpose
from app.repositories.credential import EmailTokenRepository
from app.repositories.user import UserRepository
from app.services.mail import Mail, Outbox

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


class Letters:
    """What people get by mail. Each is written and sent after the answer, which therefore tells nothing of it."""

    def __init__(self, settings: Settings, database: Database, outbox: Outbox) -> None:
        self._app_name = settings.app_name
        self._app_url = settings.app_url
        self._minutes = settings.email_token_expire_minutes
        self._tokens = EmailTokens(settings)
        self._database = database
        self._outbox = outbox

    def verify(self, user_id: UUID, email: str) -> None:
        self._outbox.later(self._send(user_id, email, EmailPurpose.verify))

    def reset(self, email: str) -> None:
        """To the account of this address, if there is one that is active."""
        self._outbox.later(self._reset(email))

    def change(self, user_id: UUID, email: str) -> None:
        """To a new address, unless another account has it."""
        self._outbox.later(self._change(user_id, email))

    def tell(self, email: str, what: str) -> None:
        """That something was done, to whom it may surprise."""
        text = _CHANGED.format(what=what, app_url=self._app_url)
        self._outbox.later(self._outbox.send(Mail(email, f"{self._app_name}: your account was changed", text)))

    async def _reset(self, email: str) -> None:
        async with self._database.read() as session:
            user = await UserRepository(session).find_by_email(email)
        log.info("password forgotten", user_id=user and str(user.id))
        if user is not None and user.is_active:
            await self._send(user.id, email, EmailPurpose.reset)

    async def _change(self, user_id: UUID, email: str) -> None:
        async with self._database.read() as session:
            taken = await UserRepository(session).find_by_email(email)
        if taken is None:
            await self._send(user_id, email, EmailPurpose.change)

    async def _send(self, user_id: UUID, email: str, purpose: EmailPurpose) -> None:
        """Void what was sent for the same purpose before: only the newest letter counts."""
        expires_at = now() + timedelta(minutes=self._minutes)
        async with self._database.write() as session:
            if await UserRepository(session).find(user_id, lock=True) is None:
                return  # who asked has left since
            tokens = EmailTokenRepository(session, user_id)
            await tokens.void(purpose)
            row = await tokens.create(purpose=purpose, email=email, expires_at=expires_at)
        token = self._tokens.issue(user_id, row.id, purpose, expires_at)
        await self._outbox.send(self._letter(email, purpose, token))

    def _letter(self, email: str, purpose: EmailPurpose, token: str) -> Mail:
        text, subject, page = {
            EmailPurpose.verify: (_VERIFY, "confirm your address", "verify-email"),
            EmailPurpose.reset: (_RESET, "choose a new password", "reset-password"),
            EmailPurpose.change: (_CHANGE, "confirm your new address", "verify-email"),
        }[purpose]
        # Behind #, which browsers send to no server, so that the token is in nobody's log.
        link = f"{self._app_url}/{page}#token={token}"
        lifetime = _LIFETIME.format(minutes=self._minutes, token=token)
        return Mail(email, f"{self._app_name}: {subject}", f"{text.format(link=link)}\n\n{lifetime}")
