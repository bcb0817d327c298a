"""Streams a reply to readers from any of its characters on, whichever process generates it."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from pydantic import TypeAdapter
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import Database
from app.core.streams.base import TextStreams
from app.core.watch import LONGEST_PAUSE, Watch, Watched, open_watch
from app.models.message import Message, MessageStatus
from app.repositories.conversation import ConversationRepository
from app.repositories.reply import ReplyRepository, ReplyState
from app.schemas.message import (
    ChatEvent,
    MessageCompleted,
    MessageFailed,
    MessageInterrupted,
    MessageRead,
    MessageStopped,
    ReplyEnd,
)
from app.services.chat.reply_text import encode_message, to_deltas

REPLY_ENDS = (MessageCompleted, MessageStopped, MessageInterrupted, MessageFailed)
ReplyWatch = Watch[ReplyState]

_reply_end = TypeAdapter[ReplyEnd](ReplyEnd)

log = structlog.stdlib.get_logger("app.replies")


@dataclass(frozen=True, slots=True)
class Reply:
    """Holds a reply as it is stored: some of its text while it is pending, and all of it once there is an end."""

    message: MessageRead
    end: ReplyEnd | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Holds an event and its id, from which a reader goes on. Without an event, the reply is still alive."""

    offset: int | str
    """Counts the characters that carry the reply up to and including the event; of an agent's, it tells the place."""
    event: ChatEvent | None = None


class ReplyStream:
    """Follows one user's replies: text comes from text streams; when the watch reports news, the row is read."""

    def __init__(self, database: Database, streams: TextStreams, watch: ReplyWatch, user_id: UUID) -> None:
        self._database = database
        self._streams = streams
        self._watch = watch
        self._user_id = user_id

    async def follow(self, reply: Reply, offset: int = 0) -> AsyncGenerator[Progress]:
        """Yields reasoning and text after `offset` characters as they arrive, and then how the reply ended."""
        known = ReplyState(reply.message.status, len(encode_message(reply.message)))
        with self._watch.watching(reply.message.id, known) as watched:
            async for step in self._follow(reply, offset, watched):
                yield step

    async def ended(self, reply: Reply) -> ReplyEnd:
        """Waits until the reply has ended, and returns its end."""
        async with aclosing(self.follow(reply, len(encode_message(reply.message)))) as progress:
            async for step in progress:
                if isinstance(step.event, REPLY_ENDS):
                    return step.event
        raise AssertionError("a reply stream stopped without the end of the reply")

    async def _follow(self, reply: Reply, offset: int, watched: Watched[ReplyState]) -> AsyncGenerator[Progress]:
        while True:
            message, carried = reply.message, encode_message(reply.message)
            for place, delta in to_deltas(message, carried, offset):
                yield Progress(place, delta)
            offset = max(offset, len(carried))
            if reply.end is not None:
                yield Progress(len(carried), reply.end)
                return
            newer = None
            async with aclosing(self._streams.follow(message.id, offset)) as chunks:
                async for chunk in chunks:
                    if chunk.end is not None:
                        yield _ended(chunk.end)
                        return
                    if chunk.text:
                        for place, delta in to_deltas(message, chunk.whole, offset):
                            yield Progress(place, delta)
                        offset = chunk.offset
                        continue
                    yield Progress(offset)
                    if _has_more(watched.state, offset) and (newer := await self._newer(message, offset)):
                        break
            reply = newer or reply

    async def _newer(self, message: MessageRead, offset: int) -> Reply | None:
        """Reads the reply. Returns None if no more of it is stored or the read failed: the next pause retries it."""
        newer = await self._watch.ask((self._user_id, message.id), partial(self._read, message))
        return newer if newer and (newer.end is not None or len(encode_message(newer.message)) > offset) else None

    async def _read(self, message: MessageRead) -> Reply | None:
        try:
            async with self._database.read() as session:
                row = await ConversationRepository(session, self._user_id).find_reply(message.id)
        except SQLAlchemyError as error:
            log.warning("reply read failed", reply_id=str(message.id), error=type(error).__name__)
            return None
        return to_deleted_reply(message) if row is None else to_reply(row)


def _has_more(state: ReplyState | None, offset: int) -> bool:
    return state is None or state.status is not MessageStatus.pending or state.length > offset


async def _states(database: Database, ids: Collection[UUID]) -> Mapping[UUID, ReplyState]:
    async with database.read() as session:
        return await ReplyRepository(session).states(ids)


@asynccontextmanager
async def open_reply_watch(database: Database, streams: TextStreams) -> AsyncGenerator[ReplyWatch]:
    """Watches replies that are followed in this process and generated in others, whose events may get lost."""

    def notify(id: UUID, _before: ReplyState | None) -> None:
        streams.nudge(id)

    watch = Watch(partial(_states, database), notify, first_pause=LONGEST_PAUSE, left_out=streams)
    async with open_watch(watch):
        yield watch


def to_reply(row: Message) -> Reply:
    message = MessageRead.model_validate(row)
    match row.status:
        case MessageStatus.pending:
            return Reply(message)
        case MessageStatus.completed:
            return Reply(message, MessageCompleted(message=message))
        case MessageStatus.stopped:
            return Reply(message, MessageStopped(message=message))
        case MessageStatus.interrupted:
            return Reply(message, MessageInterrupted(message=message))
        case MessageStatus.failed:
            return Reply(message, MessageFailed(message=message, code=row.code or "", detail=row.detail or ""))


def to_deleted_reply(message: MessageRead) -> Reply:
    code = "conversation_deleted"
    lost = message.model_copy(update={"status": MessageStatus.failed, "code": code})
    return Reply(lost, MessageFailed(message=lost, code=code, detail="The conversation was deleted."))


def read_end(end: Mapping[str, Any]) -> Reply:
    """Returns the reply that this event ends."""
    event = _reply_end.validate_python(end)
    return Reply(event.message, event)


def _ended(end: str) -> Progress:
    event = _reply_end.validate_json(end)
    return Progress(len(encode_message(event.message)), event)
