"""Holds a conversation in the terminal, by the same services as the API, without HTTP."""

import asyncio
import secrets
import shlex
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli._console import terminal_input, typed
from app.cli._settings import load_settings, validate
from app.core.commands import full_command
from app.core.display import DisplayableStream, displayable
from app.core.errors import AppError, SetupError

if TYPE_CHECKING:
    from uuid import UUID

    from app.schemas.message import ChatEvent
    from app.services.chat.messages import ChatService
    from app.services.chat.replies import Replies

LOCAL_ACCOUNT = "terminal@localhost"
"""Names an account that is made when first needed; no one can log in: its address is invalid, its password random."""

app = typer.Typer()


@app.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="Send this message, print the reply and exit.")] = None,
    user: Annotated[str, typer.Option(metavar="EMAIL", help="The account that owns the conversation.")] = LOCAL_ACCOUNT,
) -> None:
    """Talk with the model until Ctrl-D or `exit`."""
    from app.core.logging import configure_logging
    from app.main import create_app

    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}))
    asyncio.run(_chat(create_app(settings), message, user.lower()))


async def _chat(app: Any, message: str | None, email: str) -> None:
    from app.api.v1.chat import chat_of

    state = app.state
    async with app.router.lifespan_context(app):
        user_id = await account(state, email)
        talk = ChatSession(chat_of(state, user_id), state.replies)
        if message is None:
            await talk.converse()
        else:
            await talk.say(message)


class ChatSession:
    """Holds one conversation, which begins with the first message."""

    def __init__(self, chat: "ChatService", replies: "Replies") -> None:
        self._chat = chat
        self._replies = replies
        self._conversation_id: UUID | None = None
        self._text = DisplayableStream()

    async def converse(self) -> None:
        with suppress(ImportError):
            import_module("readline")  # arrow keys, where there is a readline
        while (message := ask()) is not None:
            if message.strip():
                await self._answer(message)

    async def _answer(self, message: str) -> None:
        try:
            await self.say(typed(message))
        except (AppError, SetupError) as error:
            typer.secho(displayable(str(error)), fg="red")

    async def say(self, message: str) -> None:
        """Sends a message and prints the reply as it grows. Raises SetupError, with the reason, when that fails."""
        from app.schemas.message import MessageCreate

        data = validate(MessageCreate, content=message, conversation_id=self._conversation_id)
        exchange = await self._chat.send(data)
        self._conversation_id = exchange.message.conversation_id
        try:
            async for step in self._chat.follow(exchange):
                self._show(step.event)
        except asyncio.CancelledError:
            await self._replies.finish(0)  # stores the text so far
            raise

    def _show(self, event: "ChatEvent | None") -> None:
        from app.schemas.message import MessageDelta, MessageFailed

        if isinstance(event, MessageDelta):
            self._print(self._text.add(event.text))
        elif event is not None and event.type != "message.created":
            self._print(self._text.end())
            typer.echo()
        if isinstance(event, MessageFailed):
            raise SetupError(event.detail)

    def _print(self, text: str) -> None:
        """Prints the text itself: `echo` would print UTF-8 where the console has another encoding."""
        sys.stdout.write(typer.style(text, fg="cyan") if text and sys.stdout.isatty() else text)
        sys.stdout.flush()


def ask() -> str | None:
    """Reads a message; None ends the conversation. Blocks the event loop, which has nothing else to do meanwhile."""
    terminal_input()
    of_asyncio = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's would not interrupt input()
    try:
        message = input("> ")
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        return None
    finally:
        signal.signal(signal.SIGINT, of_asyncio)
    return None if message.strip().lower() in {"exit", "quit"} else message


async def account(state: Any, email: str) -> "UUID":
    from app.repositories.user import UserRepository

    async with state.database.read() as session:
        user = await UserRepository(session).find_by_email(email)
    if user is not None:
        return user.id
    if email != LOCAL_ACCOUNT:
        create = full_command(f"users create {shlex.quote(email)}")
        raise SetupError(f"There is no user {email}: create one with {create}.")
    hashed = await state.passwords.hash(secrets.token_urlsafe())
    async with state.database.write() as session:
        user = await UserRepository(session).create(email=email, full_name="Terminal", hashed_password=hashed)
    return user.id
