"""Holds a conversation in the terminal, by the same services as the API, without HTTP."""

import asyncio
import json
import secrets
import shlex
import signal
import sys
from contextlib import AsyncExitStack, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli._console import terminal_input, typed
from app.cli._settings import load_settings, validate
from app.core.commands import full_command
from app.core.display import DisplayableStream, displayable
from app.core.errors import AppError, SetupError
from app.core.reasoning import ReasoningEffort

if TYPE_CHECKING:
    from uuid import UUID

    from app.schemas.message import ChatEvent
    from app.schemas.reply_event import ApprovalRequested
    from app.services.chat.messages import ChatService
    from app.services.chat.replies import Replies

LOCAL_ACCOUNT = "terminal@localhost"
"""Names an account that is made when first needed; no one can log in: its address is invalid, its password random."""

SHOWN_CHARACTERS = 200
"""Limits what is shown of the result of a tool."""

app = typer.Typer()


@app.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="Send this message, print the reply and exit.")] = None,
    user: Annotated[str, typer.Option(metavar="EMAIL", help="The account that owns the conversation.")] = LOCAL_ACCOUNT,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="The agent of this account to talk with, by name or id.")
    ] = None,
    effort: Annotated[ReasoningEffort | None, typer.Option(help="How much the model reasons.")] = None,
) -> None:
    """Talk with the model, or with an agent, until Ctrl-D or `exit`."""
    from app.core.logging import configure_logging
    from app.main import create_app

    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}))
    asyncio.run(_chat(create_app(settings), message, user.lower(), agent, effort))


async def _chat(app: Any, message: str | None, email: str, agent: str | None, effort: ReasoningEffort | None) -> None:
    from app.api.v1.chat import agents_of, chat_of

    state = app.state
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        user_id = await account(state, email)
        agent_id = None
        if agent is not None:
            agents = agents_of(state, user_id)
            if agents is None:
                raise SetupError("This project has no agents.")
            agent_id = await agents.find(typed(agent))
            await stack.enter_async_context(agents.run_here())
        talk = ChatSession(chat_of(state, user_id), state.replies, agent_id, effort)
        if message is None:
            await talk.converse()
        else:
            await talk.say(message)


class ChatSession:
    """Holds one conversation, which begins with the first message."""

    def __init__(
        self,
        chat: "ChatService",
        replies: "Replies",
        agent_id: "UUID | None" = None,
        effort: ReasoningEffort | None = None,
    ) -> None:
        self._chat = chat
        self._replies = replies
        self._agent_id = agent_id
        self._effort = effort
        self._conversation_id: UUID | None = None
        self._text = DisplayableStream()
        self._is_amid_line = False

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

        data = validate(
            MessageCreate,
            content=message,
            conversation_id=self._conversation_id,
            agent_id=self._agent_id,
            reasoning_effort=self._effort,
        )
        exchange = await self._chat.send(data)
        self._conversation_id = exchange.message.conversation_id
        reply_id = exchange.reply.message.id
        try:
            async for step in self._chat.follow(exchange):
                await self._show(step.event, reply_id)
        except asyncio.CancelledError:
            if self._agent_id is None:
                await self._replies.finish(0)  # stores the text so far
            else:
                await self._chat.wait(await self._chat.stop(reply_id))
            raise

    async def _show(self, event: "ChatEvent | None", reply_id: "UUID") -> None:
        from app.schemas.message import MessageCreated, MessageDelta, MessageFailed
        from app.schemas.reply_event import ReasoningDelta

        if isinstance(event, MessageDelta):
            self._print(self._text.add(event.text))
        elif not isinstance(event, MessageCreated | ReasoningDelta | None):
            self._end_line()
            await self._show_work(event, reply_id)
        if isinstance(event, MessageFailed):
            raise SetupError(event.detail)

    async def _show_work(self, event: "ChatEvent", reply_id: "UUID") -> None:
        """Prints what an agent does, and asks before it calls a tool that needs approval."""
        import app.schemas.reply_event as events

        match event:
            case events.ToolCalled():
                self._tell(f"{event.name}({event.arguments})")
            case events.MessageData():
                self._tell(json.dumps(event.data, ensure_ascii=False))
            case events.ToolReturned() | events.SubagentCompleted():
                self._tell(f"{event.name}: {shorten(event.content)}")
            case events.ToolFailed():
                self._tell(f"{event.name} failed: {shorten(event.detail)}")
            case events.ApprovalRequested():
                await self._approve(event, reply_id)
            case events.MessageRewound():
                self._tell("The model was interrupted, and is asked again.")
            case _:
                pass

    async def _approve(self, event: "ApprovalRequested", reply_id: "UUID") -> None:
        from app.schemas.message import ApprovalAnswer

        try:
            answer = prompt_for(displayable(f"Run {event.name}({event.arguments})? [y/N] "))
        except KeyboardInterrupt:
            await self._chat.stop(reply_id)
            return
        approved = answer.strip().lower() in {"y", "yes"}
        await self._chat.answer(reply_id, ApprovalAnswer(tool_call_id=event.tool_call_id, approved=approved))

    def _tell(self, line: str) -> None:
        typer.secho(displayable(line), dim=sys.stdout.isatty())

    def _end_line(self) -> None:
        self._print(self._text.end())
        if self._is_amid_line:
            typer.echo()
        self._is_amid_line = False

    def _print(self, text: str) -> None:
        """Prints the text itself: `echo` would print UTF-8 where the console has another encoding."""
        self._is_amid_line = self._is_amid_line or bool(text)
        sys.stdout.write(typer.style(text, fg="cyan") if text and sys.stdout.isatty() else text)
        sys.stdout.flush()


def shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"


def ask() -> str | None:
    """Reads a message; None ends the conversation."""
    try:
        message = prompt_for("> ", at_end="exit")
    except KeyboardInterrupt:
        return None
    return None if message.strip().lower() in {"exit", "quit"} else message


def prompt_for(question: str, *, at_end: str = "") -> str:
    """Reads a line. Raises KeyboardInterrupt. Blocks the event loop, which has nothing else to do meanwhile."""
    terminal_input()
    of_asyncio = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's would not interrupt input()
    try:
        return input(question)
    except EOFError:
        typer.echo()
        return at_end
    except KeyboardInterrupt:
        typer.echo()
        raise
    finally:
        signal.signal(signal.SIGINT, of_asyncio)


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
