"""Replies outlive the requests that asked for them: each is a task of its own, whose text others follow."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from anyio import CancelScope
from sqlalchemy.exc import NoResultFound, SQLAlchemyError

from app.core.database import Database
from app.core.events import Events
from app.models.message import MessageStatus
from app.repositories.conversation import ConversationRepository
from app.schemas.message import MessageCompleted, MessageFailed, MessageInterrupted, MessageRead, ReplyEnd
from app.services.ai import AI, Line, ModelFailure

SETTLE_PAUSES = (0.1, 1.0, 3.0)
"""Seconds before each new try to store a reply."""

log = structlog.stdlib.get_logger("app.replies")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a reply needs once the database is let go."""

    user_id: UUID
    user_message: MessageRead
    reply: MessageRead
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class _Outcome:
    text: str
    status: MessageStatus
    code: str = ""
    detail: str = ""


class Replies:
    def __init__(self, database: Database, events: Events, ai: AI) -> None:
        self._database = database
        self._events = events
        self._ai = ai
        self._tasks: set[asyncio.Task[None]] = set()
        self._speaking: dict[UUID, CancelScope] = {}

    def start(self, turn: Turn) -> None:
        """The reply begins; its text is in the event log under the reply's id."""
        self._events.open(turn.reply.id)
        self._speaking[turn.reply.id] = CancelScope()
        task = asyncio.create_task(self._run(turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, grace_seconds: float) -> None:
        """Wait for the replies in flight; those that take longer are stored as interrupted, with their text."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for scope in self._speaking.values():
            scope.cancel()
        await asyncio.gather(*self._tasks)

    async def _run(self, turn: Turn) -> None:
        outcome = await self._speak(turn)
        end = await self._settle(turn, outcome)
        await self._events.close(turn.reply.id, end.model_dump_json())

    async def _speak(self, turn: Turn) -> _Outcome:
        """The one part of a reply that can be cancelled: what was said is always stored."""
        text = ""
        try:
            with self._speaking[turn.reply.id]:
                async with aclosing(self._ai.stream(turn.lines)) as pieces:
                    async for piece in pieces:
                        text += piece
                        await self._events.append(turn.reply.id, piece)
                return _Outcome(text, MessageStatus.completed)
        except Exception as error:
            return _failed(text, error)
        finally:
            del self._speaking[turn.reply.id]
        return _Outcome(text, MessageStatus.interrupted)

    async def _settle(self, turn: Turn, outcome: _Outcome) -> ReplyEnd:
        """Tries again for a while: what was said must not be lost with a connection."""
        for pause in SETTLE_PAUSES:
            try:
                return _end(await self._store(turn, outcome), outcome)
            except NoResultFound:
                return _unstored(turn, outcome, "conversation_deleted", "The conversation was deleted meanwhile.")
            except (SQLAlchemyError, OSError) as error:
                log.warning("reply not stored", reply_id=str(turn.reply.id), error=type(error).__name__, again_in=pause)
                await asyncio.sleep(pause)
        log.error("reply given up", reply_id=str(turn.reply.id))
        return _unstored(turn, outcome, "not_stored", "The reply could not be stored.")

    async def _store(self, turn: Turn, outcome: _Outcome) -> MessageRead:
        async with self._database.write() as session:
            conversations = ConversationRepository(session, turn.user_id)
            return MessageRead.model_validate(await conversations.settle(turn.reply.id, outcome.status, outcome.text))


def _unstored(turn: Turn, outcome: _Outcome, code: str, detail: str) -> MessageFailed:
    lost = turn.reply.model_copy(update={"content": outcome.text, "status": MessageStatus.failed})
    return MessageFailed(message=lost, code=code, detail=detail)


def _failed(text: str, error: Exception) -> _Outcome:
    if isinstance(error, ModelFailure):
        return _Outcome(text, MessageStatus.failed, error.code, str(error))
    # Where, but not what it says: the text of a library's error may quote a key or a person's words.
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("reply failed", error=type(error).__name__, where=where)
    return _Outcome(text, MessageStatus.failed, "internal", "The reply failed inside this service.")


def _end(message: MessageRead, outcome: _Outcome) -> ReplyEnd:
    match outcome.status:
        case MessageStatus.completed:
            return MessageCompleted(message=message)
        case MessageStatus.interrupted:
            return MessageInterrupted(message=message)
        case _:
            return MessageFailed(message=message, code=outcome.code, detail=outcome.detail)


@asynccontextmanager
async def open_replies(database: Database, events: Events, ai: AI, grace_seconds: float) -> AsyncGenerator[Replies]:
    """When it closes it first waits for the replies in flight."""
    replies = Replies(database, events, ai)
    try:
        yield replies
    finally:
        await replies.finish(grace_seconds)
