"""Delivers e-mails by SMTP, or into a folder of this machine if no server is configured."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import HeaderParser
from email.policy import default as POLICY
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import structlog
from anyio import to_thread
from uuid_utils.compat import uuid7

from app.core.config import ROOT, Settings
from app.core.files import replacing
from app.core.rate_limits import HOUR, RateLimiter, Rule, TooManyRequests, mailbox_key
from app.core.shutdown import Shutdown
from app.services.email.templates import EmailContent

SMTP_SECONDS = 15.0
PAUSES = (1.0, 10.0, 60.0)
"""Sets the seconds to wait before each further attempt to deliver."""

log = structlog.stdlib.get_logger("app.mail")


ComposeEmail = Callable[[], Awaitable[EmailContent | None]]
"""Makes an e-mail's content, or None when there is nothing to say after all."""


class MailFailure(Exception):
    """Reports that an e-mail was not delivered. The message names what went wrong, but no address."""


class Mailer(Protocol):
    async def deliver(self, message: EmailMessage, sender: str, recipient: str) -> None:
        """Sends a message to this recipient, whatever its headers say. Raises MailFailure."""
        ...


class SmtpMailer:
    """Opens a connection for each e-mail: there are few, so none is kept alive."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._options: dict[str, Any] = {
            "hostname": parts.hostname,
            "port": parts.port,
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "use_tls": parts.scheme == "smtps",
            "start_tls": parts.scheme == "smtp+starttls",
            "timeout": SMTP_SECONDS,
        }

    async def deliver(self, message: EmailMessage, sender: str, recipient: str) -> None:
        from aiosmtplib import SMTPException, send

        try:
            await send(message, sender=sender, recipients=[recipient], **self._options)
        except (SMTPException, OSError, ValueError) as error:
            raise MailFailure(type(error).__name__) from None

    async def check(self) -> None:
        """Opens and closes a connection, with the log-in. Raises MailFailure."""
        from aiosmtplib import SMTP, SMTPException

        try:
            async with SMTP(**self._options):
                pass
        except (SMTPException, OSError, ValueError) as error:
            raise MailFailure(type(error).__name__) from None


class FolderMailer:
    """Writes each e-mail to a file and logs its path; `show_text`, for developers, logs its text, too."""

    def __init__(self, folder: Path, *, show_text: bool) -> None:
        self._folder = folder
        self._show_text = show_text

    async def deliver(self, message: EmailMessage, sender: str, recipient: str) -> None:
        try:
            path = await to_thread.run_sync(self._write, message)
        except OSError as error:
            raise MailFailure(f"{self._folder} cannot be written: {error.strerror}") from None
        text: dict[str, Any] = {"text": text_of(message)} if self._show_text else {}
        log.info("mail kept in a folder", path=str(path), subject=message["Subject"], **text)

    def _write(self, message: EmailMessage) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{uuid7()}.eml"
        with replacing(path) as new:
            new.touch(mode=0o600)
            new.write_bytes(bytes(message))
        return path


class Outbox:
    """Sends all e-mails: limits them by recipient, and delivers them after the response but before a shutdown ends."""

    def __init__(self, mailer: Mailer, settings: Settings, rate_limiter: RateLimiter) -> None:
        self._mailer = mailer
        self._rate_limiter = rate_limiter
        self._rule = Rule("mails-to", settings.mails_per_hour, HOUR)
        self._app_name, self._sender = settings.app_name, settings.mail_from
        self._tasks: set[asyncio.Task[None]] = set()

    async def post(self, recipient: str, compose: ComposeEmail) -> None:
        """Writes and sends an e-mail in the background. Raises TooManyRequests when the address has got enough."""
        try:
            await self._rate_limiter.hit(self._rule, mailbox_key(recipient))
        except TooManyRequests:
            log.warning("mail dropped", error="too many to one address")
            raise
        task = asyncio.create_task(self._compose(recipient, compose))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _compose(self, recipient: str, compose: ComposeEmail) -> None:
        if content := await compose():
            await self._send(recipient, content)

    async def _send(self, recipient: str, content: EmailContent) -> None:
        """Sends an e-mail, with several attempts; one that cannot be delivered is logged and given up."""
        message = self._message(recipient, content)
        if _addresses(message, "To") != [recipient] or _addresses(message, "From") != [self._sender]:
            log.error("mail refused", subject=content.subject, error="its headers would name other addresses")
            return
        for pause in (*PAUSES, None):
            try:
                await self._mailer.deliver(message, self._sender, recipient)
                return
            except MailFailure as error:
                log.warning("mail delivery failed", subject=content.subject, error=str(error), again_in=pause)
                if pause is not None:
                    await asyncio.sleep(pause)
        log.error("mail given up", subject=content.subject)

    async def drain(self, grace_seconds: float | None = None) -> None:
        """Waits until all e-mails are sent; those that take longer than the grace period are logged and given up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self._tasks:  # including tasks that are added meanwhile
                    await asyncio.wait(self._tasks)
        for task in self._tasks:
            log.error("mail given up", error="shutdown")
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("mail task failed", exc_info=error)

    def _message(self, recipient: str, content: EmailContent) -> EmailMessage:
        message = EmailMessage(POLICY.clone(utf8=not recipient.isascii()))
        message["From"], message["To"] = _address(self._sender, self._app_name), _address(recipient)
        message["Subject"] = _undecoded(content.subject)
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=message["From"].addresses[0].domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(content.text)
        message.add_alternative(content.html, subtype="html")
        return message


def text_of(message: EmailMessage) -> str:
    """Returns the plain text of an e-mail."""
    part = message.get_body(("plain",))
    return part.get_content() if part else ""


def _address(address: str, name: str = "") -> Address:
    user, _, domain = address.rpartition("@")
    return Address(_undecoded(name), user, domain)


def _undecoded(text: str) -> str:
    """Breaks up `=?`, which begins an encoded word and which the library would decode anywhere in a header."""
    return text.replace("=?", "= ?")


def _addresses(message: EmailMessage, header: str) -> list[str]:
    """Returns the addresses in a header as the program of the recipient reads them."""
    read = HeaderParser(policy=POLICY).parsestr(bytes(message).decode())
    return [address.addr_spec for address in read[header].addresses]


@asynccontextmanager
async def open_outbox(settings: Settings, shutdown: Shutdown, rate_limiter: RateLimiter) -> AsyncGenerator[Outbox]:
    """Opens the outbox; closing it first waits for e-mails that are not delivered yet."""
    outbox = Outbox(_mailer(settings), settings, rate_limiter)
    try:
        yield outbox
    finally:
        await outbox.drain(shutdown.remaining())


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_url:
        return SmtpMailer(settings.smtp_url.get_secret_value())
    local = settings.environment == "local"
    if not local:
        log.warning("SMTP_URL is not set: mail is kept in a folder and reaches nobody", folder=settings.mailbox_folder)
    return FolderMailer(ROOT / settings.mailbox_folder, show_text=local)
