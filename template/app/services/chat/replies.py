"""Generates replies, each in a task of its own that outlives the request, while others follow its text."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog
from anyio import CancelScope
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.core.periodic import Supervisor
from app.core.retries import retry
from app.core.shutdown import Shutdown
from app.core.streams.base import TextStream, TextStreams
from app.core.telemetry.spans import note_failure, traced
from app.models.message import Message, MessageStatus, parts_of
from app.repositories.conversation import ConversationRepository
from app.repositories.job import JobRepository
from app.repositories.reply import Outcome, ReplyRepository
from app.repositories.usage import UsageRepository
from app.schemas.message import MessageRead, ReplyEnd
from app.services.ai import ModelFailure, ModelGateway, ModelStream, Prompt
from app.services.chat.recovery import ReplyRecovery
from app.services.chat.reply_text import decode, encode_piece
from app.services.chat.stream import to_deleted_reply, to_reply
from app.services.chat.writers import Written
from app.services.processes.heartbeat import BEAT_SECONDS, Heartbeat
from app.services.usage.metrics import count_usage

FEATURE = "chat"
"""Names the feature in usage records."""
FLUSH_SECONDS, ONLY_FLUSH_SECONDS = 1.0, 0.2
"""Sets the seconds between two writes of texts; the second value, if only this process has them until then."""

FIRST_REPLY = 2
"""Holds the position of the first reply in its conversation."""

T = TypeVar("T")
PromptLoader = Callable[[], Awaitable[Prompt]]
"""Waits until the previous reply of the conversation has ended, and returns the prompt."""

log = structlog.stdlib.get_logger("app.replies")


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """Holds what is needed to generate a reply after the transaction that stored it has ended."""

    user_id: UUID
    reply: MessageRead
    load_prompt: PromptLoader


@dataclass(slots=True, eq=False)
class _ActiveReply:
    """Tracks a reply that this process generates."""

    request: ReplyRequest
    log: TextStream
    stream: ModelStream | None = None
    scope: CancelScope = field(default_factory=CancelScope)
    cancelled_status: MessageStatus = MessageStatus.interrupted
    """Becomes the status of the reply if the scope is cancelled."""
    flushed: int = 0
    """Counts the characters of the stream that are stored already."""

    def outcome(self, status: MessageStatus, code: str | None = None, detail: str | None = None) -> Outcome:
        usage = asdict(self.stream.usage) if self.stream else {}
        text = decode(self.log.text)
        return Outcome(status, text.content, code, detail, stored_parts=text.stored_parts, **usage)


class Replies:
    """Runs the replies that this process generates."""

    def __init__(
        self,
        database: Database,
        streams: TextStreams,
        ai: ModelGateway,
        process_id: UUID,
        *,
        writes_titles: bool = False,
    ) -> None:
        self.process_id = process_id
        self._writes_titles = writes_titles
        self._database = database
        self._streams = streams
        self._ai = ai
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: dict[UUID, _ActiveReply] = {}
        self._closing = False

    def check(self, model: str | None) -> None:
        """Raises Invalid when clients may not choose this model."""
        if model is not None:
            self._ai.check(model)

    def start(self, request: ReplyRequest) -> None:
        """Starts a reply, whose text can be followed in the text streams under its id."""
        active = _ActiveReply(request, self._streams.open(request.reply.id))
        self._active[request.reply.id] = active
        task = asyncio.create_task(self._run(active))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_active(self, reply_id: UUID) -> bool:
        """Returns whether this process generates the reply, and so is going to end it."""
        return reply_id in self._active

    def stop(self, reply_id: UUID) -> None:
        """Ends a reply with the text that it has, if this process generates it."""
        if active := self._active.get(reply_id):
            active.cancelled_status = MessageStatus.stopped
            active.scope.cancel()

    async def flush(self) -> None:
        """Stores texts that have grown, so that they survive this process, and stops the replies that nobody wants.

        Those are replies that a user has asked to stop, those of deactivated accounts, and those that were deleted.
        """
        if not self._active:
            return
        known = set(self._active)  # copied before the query: a reply that starts meanwhile is wanted
        grown = {id: active.log.text for id, active in self._active.items() if len(active.log.text) > active.flushed}
        if grown:
            async with self._database.write() as session:
                await ReplyRepository(session).store_texts({id: decode(text) for id, text in grown.items()})
        async with self._database.read() as session:
            wanted = await ReplyRepository(session).list_wanted(self.process_id)
        for id in grown.keys() & self._active.keys():
            self._active[id].flushed = len(grown[id])
        for reply_id in known.difference(wanted):
            self.stop(reply_id)

    async def finish(self, grace_seconds: float) -> None:
        """Waits for the replies in flight; those that take longer are stored as interrupted, with their text."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        self._closing = True
        for active in self._active.values():
            active.scope.cancel()
        await asyncio.gather(*self._tasks)

    async def _run(self, active: _ActiveReply) -> None:
        try:
            with traced("reply", message_id=str(active.request.reply.id)):
                await self._answer(active)
        finally:
            del self._active[active.request.reply.id]

    async def _answer(self, active: _ActiveReply) -> None:
        outcome = await self._generate(active)
        if outcome.code and outcome.status is MessageStatus.failed:
            note_failure(outcome.code)
        if end := await self._save_outcome(active, outcome):
            self._streams.close(active.request.reply.id, end.model_dump_json())

    async def _generate(self, active: _ActiveReply) -> Outcome:
        """Runs the only part of a reply that can be cancelled: whatever text there is gets stored afterwards."""
        try:
            with active.scope:
                prompt = await self._retry(active.request.load_prompt, active, "read of a history")
                async with self._ai.ask(prompt) as active.stream:
                    async for piece in active.stream:
                        if text := encode_piece(active.log.text, piece):
                            self._streams.append(active.request.reply.id, text)
                return active.outcome(MessageStatus.completed, active.stream.message.code)
        except Exception as error:
            return active.outcome(MessageStatus.failed, *_reason(error))
        return active.outcome(active.cancelled_status)

    async def _save_outcome(self, active: _ActiveReply, outcome: Outcome) -> ReplyEnd | None:
        """Stores the outcome, with retries for as long as this process lives: a lost connection must not cost the text.

        Returns None when even that was not enough: another process, or the next one, recovers what was flushed.
        """
        try:
            return await self._retry(partial(self._store, active, outcome), active, "write of a reply")
        except SQLAlchemyError:
            log.exception("reply write failed", reply_id=str(active.request.reply.id))
            return None

    async def _retry(self, work: Callable[[], Awaitable[T]], active: _ActiveReply, name: str) -> T:
        return await retry(work, name, is_patient=lambda: not self._closing, reply_id=str(active.request.reply.id))

    async def _store(self, active: _ActiveReply, outcome: Outcome) -> ReplyEnd | None:
        """Stores the outcome. Returns that end, or the one that a process has stored that took this one for dead."""
        reply = active.request.reply
        async with self._database.write(active.request.user_id) as session:
            conversations = ConversationRepository(session, active.request.user_id)
            finished = await conversations.finish_reply(reply.id, outcome)
            if finished is None and (ended := await conversations.find_reply(reply.id)):
                return to_reply(ended).end
            await UsageRepository(session, active.request.user_id).record(reply.id, FEATURE, outcome.used)
            if self._writes_titles and finished is not None:
                await request_title(session, active.request.user_id, finished)
        count_usage(FEATURE, outcome.used)
        if finished is None:
            written = Written(outcome.content, parts_of(outcome.stored_parts, outcome.content))
            return to_deleted_reply(written.add_to(reply)).end
        return to_reply(finished).end


async def request_title(session: AsyncSession, user_id: UUID, reply: Message) -> None:
    """Adds the job that has a model write the title, if the reply is the first of its conversation and is whole."""
    if reply.position == FIRST_REPLY and reply.status is MessageStatus.completed:
        arguments = {"user_id": user_id, "reply_id": reply.id}
        await JobRepository(session).enqueue("write_title", arguments, user_id=user_id)


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModelFailure):
        return error.code, str(error)
    # The log has the place but not the text of the error, which may quote a key or what a user wrote.
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("reply failed", error=type(error).__name__, where=where)
    return "internal", "The reply failed because of an error in this service; send the message again."


@asynccontextmanager
async def open_replies(
    database: Database,
    streams: TextStreams,
    ai: ModelGateway,
    *,
    heartbeat: Heartbeat,
    supervisor: Supervisor,
    shutdown: Shutdown,
    writes_titles: bool,
) -> AsyncGenerator[Replies]:
    """Opens the replies of this process. At shutdown, those in flight get the time that is left to end regularly."""
    replies = Replies(database, streams, ai, heartbeat.id, writes_titles=writes_titles)
    flush_seconds = FLUSH_SECONDS if streams.outlives_its_process else ONLY_FLUSH_SECONDS
    recovery = ReplyRecovery(database, streams, heartbeat, replies.is_active)
    async with (
        supervisor.repeat("recovery of replies", recovery.recover, BEAT_SECONDS),
        supervisor.repeat("flush of replies", replies.flush, flush_seconds),
    ):
        finishing = asyncio.create_task(_finish(replies, shutdown))
        try:
            yield replies
        finally:
            shutdown.request()
            await finishing
            await replies.finish(shutdown.remaining())  # those that started after the shutdown was requested


async def _finish(replies: Replies, shutdown: Shutdown) -> None:
    await shutdown.requested.wait()
    await replies.finish(shutdown.remaining())
