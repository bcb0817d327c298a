"""Provides a real SMTP server on loopback that keeps what it receives, and helpers that read e-mails."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope

from app.services.email.mailer import text_of


class Mailbox:
    def __init__(self, refusals: int = 0) -> None:
        self.messages: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.url = ""
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()
        """Tells that a first e-mail has arrived, which may not be accepted yet."""
        self._refusals = refusals

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        self.reached.set()
        await self.open.wait()
        if self._refusals:
            self._refusals -= 1
            return "451 come back later"
        assert isinstance(envelope.content, bytes)
        self.envelopes.append(envelope)
        self.messages.append(parsed(envelope.content))
        return "250 kept"


@asynccontextmanager
async def mailbox(refusals: int = 0, *, smtputf8: bool = False) -> AsyncGenerator[Mailbox]:
    """Runs the SMTP server; it answers the first `refusals` e-mails with a temporary error."""
    box = Mailbox(refusals)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, enable_SMTPUTF8=smtputf8), "127.0.0.1", 0)
    box.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield box
    finally:
        server.close()


def parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def addresses(content: bytes, header: str) -> list[str]:
    """Returns the addresses in a header, as the standard library parses it."""
    read = HeaderParser(policy=policy.default).parsestr(content.decode())
    return [address.addr_spec for address in read[header].addresses]


def kept(folder: Path) -> list[EmailMessage]:
    """Lists the e-mails in a folder, oldest first."""
    return [parsed(path.read_bytes()) for path in sorted(folder.glob("*.eml"))]


def token_in(message: EmailMessage) -> str:
    found = re.search(r"#token=(\S+)", text_of(message))
    assert found, text_of(message)
    return found[1]
