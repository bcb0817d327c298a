"""Delivers e-mails by SMTP, or into a folder of this machine if no server is configured."""

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
from app.core.jobs import JobFailed
from app.core.rate_limits import HOUR, RateLimiter, Rule, TooManyRequests, mailbox_key
from app.services.email.templates import EmailContent

SMTP_SECONDS = 15.0

log = structlog.stdlib.get_logger("app.mail")


class MailFailure(JobFailed):
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
    """Limits and sends all e-mails. The recipient is one address, whatever the headers say."""

    def __init__(self, settings: Settings, rate_limiter: RateLimiter) -> None:
        self._mailer = _mailer(settings)
        self._rate_limiter = rate_limiter
        self._rule = Rule("mails-to", settings.mails_per_hour, HOUR)
        self._app_name, self._sender = settings.app_name, settings.mail_from

    async def count(self, recipient: str) -> None:
        """Counts an e-mail that is to be sent. Raises TooManyRequests when the address has got enough."""
        try:
            await self._rate_limiter.hit(self._rule, mailbox_key(recipient))
        except TooManyRequests:
            log.warning("mail dropped", error="too many to one address")
            raise

    async def send(self, recipient: str, content: EmailContent) -> None:
        """Sends an e-mail. Raises MailFailure."""
        message = self._message(recipient, content)
        if _addresses(message, "To") != [recipient] or _addresses(message, "From") != [self._sender]:
            log.error("mail refused", subject=content.subject, error="its headers would name other addresses")
            return
        await self._mailer.deliver(message, self._sender, recipient)

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


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_url:
        return SmtpMailer(settings.smtp_url.get_secret_value())
    local = settings.environment == "local"
    if not local:
        log.warning("SMTP_URL is not set: mail is kept in a folder and reaches nobody", folder=settings.mailbox_folder)
    return FolderMailer(ROOT / settings.mailbox_folder, show_text=local)
