"""Replies outlive the requests that asked for them: each is a task of its own, whose text others follow."""

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

from app.core.database import Database
from app.core.periodic import Supervisor
from app.core.retries import retry
from app.core.shutdown import Shutdown
from app.core.streams.base import TextStream, TextStreams
from app.core.telemetry.spans import note_failure, traced
from app.core.text import storable
from app.models.message import MessageStatus
from app.repositories.conversation import ConversationRepository
from app.repositories.reply import Outcome, ReplyRepository
from app.repositories.usage import UsageRepository
from app.schemas.message import MessageRead, ReplyEnd
from app.services.ai import ModelFailure, ModelGateway, ModelStream, Prompt
from app.services.chat.recovery import ReplyRecovery
from app.services.chat.stream import deleted, stored
from app.services.processes.heartbeat import BEAT_SECONDS, Heartbeat
from app.services.usage.metrics import count

FEATURE = "chat"
"""Under which its usage is counted."""
FLUSH_SECONDS, ONLY_FLUSH_SECONDS = 1.0, 0.2
"""Between two times that what was said is stored; the second where it is kept nowhere else meanwhile."""

T = TypeVar("T")
PromptLoader = Callable[[], Awaitable[Prompt]]
"""Waits until it is the reply's turn, and returns its prompt."""

log = structlog.stdlib.get_logger("app.replies")


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """What a reply needs once the database is let go."""

    user_id: UUID
    reply: MessageRead
    load_prompt: PromptLoader


@dataclass(slots=True, eq=False)
class _ActiveReply:
    """A reply that this process speaks."""

    request: ReplyRequest
    log: TextStream
    stream: ModelStream | None = None
    scope: CancelScope = field(default_factory=CancelScope)
    cancelled_status: MessageStatus = MessageStatus.interrupted
    """What it is if the scope is cancelled."""
    flushed: int = 0
    """Characters that are stored already."""

    def outcome(self, status: MessageStatus, code: str | None = None, detail: str | None = None) -> Outcome:
        usage = asdict(self.stream.usage) if self.stream else {}
        return Outcome(status, self.log.text, code, detail, **usage)


class Replies:
    """Those that this process speaks."""

    def __init__(self, database: Database, streams: TextStreams, ai: ModelGateway, process_id: UUID) -> None:
        self.process_id = process_id
        self._database = database
        self._streams = streams
        self._ai = ai
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: dict[UUID, _ActiveReply] = {}
        self._closing = False

    def check(self, model: str | None) -> None:
        """Raises Invalid when nobody may ask for this model."""
        if model is not None:
            self._ai.check(model)

    def start(self, request: ReplyRequest) -> None:
        """The reply begins; its text is in the event log under its id."""
        active = _ActiveReply(request, self._streams.open(request.reply.id))
        self._active[request.reply.id] = active
        task = asyncio.create_task(self._run(active))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_active(self, reply_id: UUID) -> bool:
        """Whether this process is going to end the reply."""
        return reply_id in self._active

    def stop(self, reply_id: UUID) -> None:
        """Ends a reply with the text that it has, if this process speaks it."""
        if active := self._active.get(reply_id):
            active.cancelled_status = MessageStatus.stopped
            active.scope.cancel()

    async def flush(self) -> None:
        """Stores what was said since the last time, so that it survives this process, and looks for what to stop."""
        if not self._active:
            return
        grown = {id: active.log.text for id, active in self._active.items() if len(active.log.text) > active.flushed}
        if grown:
            async with self._database.write() as session:
                await ReplyRepository(session).store_texts(grown)
        async with self._database.read() as session:
            asked = await ReplyRepository(session).to_stop(self.process_id)
        for id in grown.keys() & self._active.keys():
            self._active[id].flushed = len(grown[id])
        for reply_id in asked:
            self.stop(reply_id)

    async def finish(self, grace_seconds: float) -> None:
        """Wait for the replies in flight; those that take longer are stored as interrupted, with their text."""
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
        """The one part of a reply that can be cancelled: what was said is always stored."""
        try:
            with active.scope:
                prompt = await self._retry(active.request.load_prompt, active, "read of a history")
                async with self._ai.ask(prompt) as active.stream:
                    async for piece in active.stream:
                        self._streams.append(active.request.reply.id, storable(piece))
                return active.outcome(MessageStatus.completed, active.stream.message.code)
        except Exception as error:
            return active.outcome(MessageStatus.failed, *_reason(error))
        return active.outcome(active.cancelled_status)

    async def _save_outcome(self, active: _ActiveReply, outcome: Outcome) -> ReplyEnd | None:
        """Tries for as long as this process lives: what was said must not be lost with a connection.

        None when even that was not enough: another process, or the next one, finds what was flushed.
        """
        try:
            return await self._retry(partial(self._store, active, outcome), active, "write of a reply")
        except SQLAlchemyError:
            log.exception("reply given up", reply_id=str(active.request.reply.id))
            return None

    async def _retry(self, work: Callable[[], Awaitable[T]], active: _ActiveReply, name: str) -> T:
        return await retry(work, name, is_patient=lambda: not self._closing, reply_id=str(active.request.reply.id))

    async def _store(self, active: _ActiveReply, outcome: Outcome) -> ReplyEnd | None:
        """How the reply ended: as it does now, or as it was finished by another process that took this one for dead."""
        reply = active.request.reply
        async with self._database.write(active.request.user_id) as session:
            conversations = ConversationRepository(session, active.request.user_id)
            finished = await conversations.finish_reply(reply.id, outcome)
            if finished is None and (ended := await conversations.find_reply(reply.id)):
                return stored(ended).end
            await UsageRepository(session, active.request.user_id).record(reply.id, FEATURE, outcome.used)
        count(FEATURE, outcome.used)
        if finished is None:
            return deleted(reply.model_copy(update={"content": outcome.content})).end
        return stored(finished).end


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModelFailure):
        return error.code, str(error)
    # Where, but not what it says: the text of a library's error may quote a key or a person's words.
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("reply failed", error=type(error).__name__, where=where)
    return "internal", "The reply failed inside this service."


@asynccontextmanager
async def open_replies(
    database: Database,
    streams: TextStreams,
    ai: ModelGateway,
    *,
    heartbeat: Heartbeat,
    supervisor: Supervisor,
    shutdown: Shutdown,
) -> AsyncGenerator[Replies]:
    """When the process is told to stop, those in flight have as long as it has, and their readers hear how they end."""
    replies = Replies(database, streams, ai, heartbeat.id)
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
            await replies.finish(shutdown.remaining())  # those that have begun since then


async def _finish(replies: Replies, shutdown: Shutdown) -> None:
    await shutdown.requested.wait()
    await replies.finish(shutdown.remaining())
