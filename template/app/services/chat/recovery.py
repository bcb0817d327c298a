"""Ends replies that no process generates any more, with all that is known of their text."""

from collections.abc import Callable
from uuid import UUID

import structlog

from app.core.database import Database
from app.core.streams.base import TextStreams
from app.repositories.reply import ReplyRepository
from app.repositories.usage import ReservationRepository
from app.schemas.message import ReplyEnd
from app.services.chat.reply_text import decode, encode, encode_message
from app.services.chat.stream import to_reply
from app.services.processes.heartbeat import Heartbeat

log = structlog.stdlib.get_logger("app.replies")


class ReplyRecovery:
    """Settles abandoned replies: those of dead processes, and those that this process has lost track of.

    It loses track of a reply when a commit reaches the database but the confirmation does not come back.
    """

    def __init__(
        self, database: Database, streams: TextStreams, heartbeat: Heartbeat, is_active: Callable[[UUID], bool]
    ) -> None:
        self._database = database
        self._streams = streams
        self._heartbeat = heartbeat
        self._is_active = is_active

    async def recover(self) -> None:
        if not self._heartbeat.can_detect_dead:
            return
        texts = await self._texts()
        if not texts:
            return
        for id, text in (await self._streams.texts(texts)).items():
            texts[id] = max(texts[id], text, key=len)
        async with self._database.write() as session:
            found = {id: decode(text) for id, text in texts.items()}
            rows = await ReplyRepository(session).interrupt(self._heartbeat.id, found)
            await ReservationRepository(session).release([row.id for row in rows])
            replies = [to_reply(row) for row in rows]
        for reply in replies:
            if reply.end:
                self._announce(reply.end)

    async def _texts(self) -> dict[UUID, str]:
        """Returns what carries each abandoned reply, as far as it is stored, by id."""
        async with self._database.read() as session:
            replies = ReplyRepository(session)
            ids = [id for id in await replies.abandoned(self._heartbeat.id) if not self._is_active(id)]
            return {id: encode(text) for id, text in (await replies.texts(ids)).items()} if ids else {}

    def _announce(self, end: ReplyEnd) -> None:
        """Sends the end of a reply to its readers, whichever processes they are connected to."""
        log.warning("abandoned reply settled", reply_id=str(end.message.id), end=end.type)
        self._streams.open(end.message.id, encode_message(end.message))
        self._streams.close(end.message.id, end.model_dump_json())
