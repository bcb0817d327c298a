from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import Settings
from app.core.database import Database
from app.core.rate_limits import TooManyRequests
from app.core.security import EmailTokens
from app.models.base import now
from app.models.user import EmailPurpose
from app.repositories.credential import EmailTokenRepository
from app.repositories.job import JobRepository
from app.repositories.user import UserRepository
from app.services.email.mailer import Outbox
from app.services.email.templates import EmailContent, render_email

_PAGES = {
    EmailPurpose.verify: "verify-email",
    EmailPurpose.reset: "reset-password",
    EmailPurpose.change: "verify-email",
}
"""Names the page of the web application that each link opens."""

log = structlog.stdlib.get_logger("app.security")


def render_link_email(settings: Settings, purpose: EmailPurpose, token: str) -> EmailContent:
    """Renders an e-mail whose link carries a token."""
    # Behind #, which browsers send to no server, so that the token is in nobody's log.
    link = f"{settings.app_url}/{_PAGES[purpose]}#token={token}"
    return render_email(
        purpose, app_name=settings.app_name, link=link, token=token, minutes=settings.email_token_expire_minutes
    )


def render_notice(settings: Settings, notice: str) -> EmailContent:
    """Renders an e-mail which tells that an account was changed."""
    return render_email("notice", app_name=settings.app_name, app_url=settings.app_url, notice=notice)


_SAMPLE = "sample-token"
PREVIEWS: dict[str, Callable[[Settings], EmailContent]] = {
    **{purpose: partial(render_link_email, purpose=purpose, token=_SAMPLE) for purpose in _PAGES},
    "notice": partial(render_notice, notice="The password of your account was changed."),
}
"""Renders each kind of e-mail with sample values, for the command `emails preview` and for tests."""


@dataclass(frozen=True, slots=True)
class EmailRequest:
    """Asks for one e-mail. Its text, with a token that nobody else may read, is written only when it is sent."""

    kind: str
    """Names what it is for: an EmailPurpose, or `notice`."""
    email: str
    user_id: UUID | None = None
    notice: str = ""
    is_counted: bool = False
    """Tells whether it has been counted for its recipient; if not, it is when it is sent."""


class AccountEmails:
    """Sends e-mails about an account, one method for each kind: each is a background job.

    An e-mail that was asked for raises TooManyRequests when its recipient has got enough. Any other is stored with the
    transaction that causes it, and dropped then.
    """

    def __init__(self, settings: Settings, database: Database, outbox: Outbox) -> None:
        self._settings = settings
        self._tokens = EmailTokens(settings)
        self._database = database
        self._outbox = outbox

    async def welcome(self, session: AsyncSession, user_id: UUID, email: str) -> None:
        """Asks the owner of a new account to confirm its address."""
        await _enqueue(session, EmailRequest(EmailPurpose.verify, email, user_id))

    async def notify(self, session: AsyncSession, user_id: UUID, email: str, notice: str) -> None:
        """Sends the sentence `notice` about a change of the account."""
        await _enqueue(session, EmailRequest("notice", email, user_id, notice))

    async def verify(self, user_id: UUID, email: str) -> None:
        """Asks again to confirm an address. Raises TooManyRequests."""
        await self._ask(EmailRequest(EmailPurpose.verify, email, user_id, is_counted=True))

    async def reset(self, email: str) -> None:
        """Lets the owner of this address choose a new password, if the account is active. Raises TooManyRequests."""
        await self._ask(EmailRequest(EmailPurpose.reset, email, is_counted=True))

    async def change(self, user_id: UUID, email: str) -> None:
        """Asks to confirm a new address, unless another account has it. Raises TooManyRequests."""
        await self._ask(EmailRequest(EmailPurpose.change, email, user_id, is_counted=True))

    async def send(self, request: EmailRequest, attempt: int) -> None:
        """Writes an e-mail and sends it, unless there is nothing to say, or the recipient has got enough.

        Raises MailFailure.
        """
        try:
            if attempt == 1 and not request.is_counted:
                await self._outbox.count(request.email)
        except TooManyRequests:  # which the outbox has logged
            return
        if content := await self._compose(request):
            await self._outbox.send(request.email, content)

    async def _ask(self, request: EmailRequest) -> None:
        await self._outbox.count(request.email)
        async with self._database.write() as session:
            await _enqueue(session, request)

    async def _compose(self, request: EmailRequest) -> EmailContent | None:
        user_id, email = request.user_id, request.email
        match request.kind:
            case EmailPurpose.verify if user_id:
                return await self._link(user_id, email, EmailPurpose.verify)
            case EmailPurpose.change if user_id:
                return await self._change(user_id, email)
            case EmailPurpose.reset:
                return await self._reset(email)
            case _:
                return render_notice(self._settings, request.notice)

    async def _reset(self, email: str) -> EmailContent | None:
        async with self._database.read() as session:
            user = await UserRepository(session).find_by_email(email)
        log.info("password reset prepared", user_id=user and str(user.id))
        if user is None or not user.is_active:
            return None
        return await self._link(user.id, email, EmailPurpose.reset)

    async def _change(self, user_id: UUID, email: str) -> EmailContent | None:
        async with self._database.read() as session:
            taken = await UserRepository(session).find_by_email(email)
        return None if taken else await self._link(user_id, email, EmailPurpose.change)

    async def _link(self, user_id: UUID, email: str, purpose: EmailPurpose) -> EmailContent | None:
        """Voids earlier tokens of the same purpose: only the newest e-mail counts."""
        expires_at = now() + timedelta(minutes=self._settings.email_token_expire_minutes)
        async with self._database.write(user_id) as session:
            if await UserRepository(session).find(user_id, lock=True) is None:
                return None  # the account was deleted meanwhile
            tokens = EmailTokenRepository(session, user_id)
            await tokens.void(purpose)
            row = await tokens.create(purpose=purpose, email=email, expires_at=expires_at)
        return render_link_email(self._settings, purpose, self._tokens.issue(user_id, row.id, purpose, expires_at))


async def _enqueue(session: AsyncSession, request: EmailRequest) -> None:
    await JobRepository(session).enqueue("send_email", {"request": request}, user_id=request.user_id)
