"""Replies whose process is dead: whoever notices it ends them, with all that is known of their text."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from app.core.database import Database
from app.core.events import Events
from app.core.tasks import repeated
from app.repositories.reply import ReplyRepository
from app.repositories.usage import ReservationRepository
from app.schemas.message import ReplyEnd
from app.services.following import stored
from app.services.heartbeat import BEAT_SECONDS, Heartbeat

log = structlog.stdlib.get_logger("app.replies")


class Abandoned:
    def __init__(self, database: Database, events: Events, heartbeat: Heartbeat) -> None:
        self._database = database
        self._events = events
        self._heartbeat = heartbeat

    async def settle(self) -> None:
        if not self._heartbeat.may_judge:
            return
        async with self._database.read() as session:
            texts = await ReplyRepository(session).abandoned(self._heartbeat.id)
        if not texts:
            return
        for id, text in (await self._events.texts(texts)).items():
            texts[id] = max(texts[id], text, key=len)
        async with self._database.write() as session:
            rows = await ReplyRepository(session).interrupt(self._heartbeat.id, texts)
            await ReservationRepository(session).release([row.id for row in rows])
            replies = [stored(row) for row in rows]
        for reply in replies:
            if reply.end:
                self._announce(reply.end)

    def _announce(self, end: ReplyEnd) -> None:
        """To those who follow the reply, in whichever process."""
        log.warning("reply of a dead process", reply_id=str(end.message.id), end=end.type)
        self._events.open(end.message.id, end.message.content)
        self._events.close(end.message.id, end.model_dump_json())


@asynccontextmanager
async def settling(database: Database, events: Events, heartbeat: Heartbeat) -> AsyncGenerator[None]:
    """Again and again, so that those who follow such a reply hear of it within seconds."""
    async with repeated("settle", Abandoned(database, events, heartbeat).settle, BEAT_SECONDS):
        yield
