"""Streams a reply that an agent writes, to readers from any place on, whichever process runs its execution."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.core.database import Database
from app.core.errors import Invalid, NotFound
from app.repositories.conversation import ConversationRepository
from app.schemas.message import DataPart, MessageDelta, MessageRead, ToolCallPart
from app.schemas.reply_event import MessageData, MessageRewound, ReasoningDelta
from app.services.agents.reply_parts import Happened, Place, ReplyParts
from app.services.agents.stream import ExecutionProgress, ExecutionStream
from app.services.chat.stream import Progress, Reply, read_end, to_deleted_reply, to_reply

AGAIN_SECONDS = 1.0
"""Sets the pause before a reply is read again whose execution has ended before it."""

_START = Place()


def parse_place(id: str | None) -> Place:
    """Returns the place that the id of an event names; the start without one. Raises Invalid."""
    if id is None:
        return _START
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}", id):
        raise Invalid("The id of an event of this reply is three numbers with dots between them.")
    return Place(*map(int, id.split(".")))


class AgentReplyStream:
    """Follows one user's replies."""

    def __init__(self, database: Database, executions: ExecutionStream, user_id: UUID) -> None:
        self._database = database
        self._executions = executions
        self._user_id = user_id

    async def follow(self, reply: Reply, place: Place, run_id: UUID | None = None) -> AsyncGenerator[Progress]:
        """Yields what happens after a place, and then how the reply ended; without an end, this process stops.

        `run_id` identifies a first run that has just begun in this process.
        """
        reader = _Reader(reply.message.id, place)
        if reply.message.execution_id is not None:
            async for step in self._follow_execution(reply.message.execution_id, run_id, reader):
                yield step
            if reply.end is None:
                if reader.end is None and self._executions.is_stopping:
                    return
                reply = await self._ended(reply.message) if reader.end is None else read_end(reader.end)
        for step in reader.read_all(reply.message):
            yield step
        if reply.end is not None:
            yield Progress(str(reader.place), reply.end)

    async def _follow_execution(
        self, execution_id: UUID, run_id: UUID | None, reader: "_Reader"
    ) -> AsyncGenerator[Progress]:
        """Yields what the execution does; nothing when it is gone."""
        with suppress(NotFound):
            if run_id is None:
                steps = self._executions.follow(await self._executions.find(execution_id))
            else:
                steps = self._executions.follow_run(execution_id, run_id)
            async with aclosing(steps) as progress:
                async for step in progress:
                    for event in reader.read(step):
                        yield event

    async def _ended(self, message: MessageRead) -> Reply:
        """Reads a reply whose execution has ended or was deleted, with its conversation."""
        while True:
            async with self._database.read() as session:
                row = await ConversationRepository(session, self._user_id).find_reply(message.id)
            if row is None:
                return to_deleted_reply(message)
            reply = to_reply(row)
            if reply.end is not None or self._executions.is_stopping:
                return reply
            await asyncio.sleep(AGAIN_SECONDS)


@dataclass(slots=True)
class _Live:
    """Describes the text that is under way: its kind, the parts of its step before it, and its characters so far."""

    kind: str = "text"
    parts: int = 0
    characters: int = 0


class _Reader:
    """Tells what a reader does not have yet, who has everything up to a place."""

    def __init__(self, reply_id: UUID, place: Place) -> None:
        self.place = place
        self.end: Mapping[str, Any] | None = None
        """Holds the last event of the reply, if it came live."""
        self._reply_id = reply_id
        self._parts = ReplyParts(reply_id)
        self._live = _Live()

    def read(self, step: ExecutionProgress) -> Iterator[Progress]:
        """Yields the events of the reply that an event of its execution means to the reader."""
        self.end = step.reply_end
        if step.data is None:
            yield Progress(str(self.place))
        elif step.type in ("model.delta", "reasoning.delta"):
            yield from self._read_live("text" if step.type == "model.delta" else "reasoning", step.data["text"])
        else:
            for happened in self._parts.add(step.type, step.data):
                yield from self._tell(happened)
            if step.type == "model.started":
                self._live = _Live()
                yield from self._rewind(Place(self._parts.attempt, len(self._parts.parts)))

    def read_all(self, message: MessageRead) -> Iterator[Progress]:
        """Yields what the reader lacks of a reply that has ended, and takes back what has not become part of it."""
        if len(self._parts.parts) < len(message.parts):  # its execution is gone
            yield from self._read_texts(message)
        if self.place.part >= len(message.parts) and self.place.offset:
            yield self._take_back(Place(self.place.attempt, len(message.parts)))

    def _read_texts(self, message: MessageRead) -> Iterator[Progress]:
        """Yields texts and data from where the reader is, who may have other words of that, of an earlier run."""
        texts = {number: part for number, part in enumerate(message.parts) if not isinstance(part, ToolCallPart)}
        first = min(self.place.part, len(message.parts))
        if first in texts or first == len(message.parts):
            while first - 1 in texts:
                first -= 1  # a step shows its reasoning before its text
            if self.place[1:] > (first, 0):
                yield self._take_back(Place(self.place.attempt, first))
        for number, part in texts.items():
            if number < first:
                continue
            attempt = max(self.place.attempt, 1)
            if isinstance(part, DataPart):
                event = MessageData(reply_id=self._reply_id, part=number, data=part.data)
                yield from self._tell(Happened(Place(attempt, number, 1), event))
            else:
                place = Place(attempt, number, len(part.text))
                yield from self._tell(Happened(place, kind=part.type, text=part.text))

    def _read_live(self, kind: str, text: str) -> Iterator[Progress]:
        if kind != self._live.kind:
            self._live = _Live(kind, self._live.parts + bool(self._live.characters))
        self._live.characters += len(text)
        place = Place(self._parts.attempt, len(self._parts.parts) + self._live.parts, self._live.characters)
        yield from self._tell_text(Happened(place, kind=kind, text=text), self._live.characters - len(text))

    def _tell(self, happened: Happened) -> Iterator[Progress]:
        if happened.event is None:
            yield from self._tell_text(happened, 0)
            return
        yield from self._rewind(happened.place)
        if happened.place[1:] > self.place[1:]:
            self.place = happened.place
            yield Progress(str(self.place), happened.event)

    def _tell_text(self, happened: Happened, before: int) -> Iterator[Progress]:
        """Yields what the reader lacks of a text, which begins after so many characters of its part."""
        place = happened.place
        yield from self._rewind(place)
        known = self.place.offset if self.place.part == place.part else 0
        if place[1:] > self.place[1:] and (lacking := happened.text[max(known - before, 0) :]):
            self.place = place
            delta = ReasoningDelta if happened.kind == "reasoning" else MessageDelta
            yield Progress(str(place), delta(reply_id=self._reply_id, text=lacking, part=place.part))

    def _rewind(self, place: Place) -> Iterator[Progress]:
        """Takes back what an earlier run has said of this part, and of those after it."""
        is_older = self.place.part >= place.part and self.place.attempt < place.attempt
        if is_older and self.place[1:] > (place.part, 0):
            yield self._take_back(place)

    def _take_back(self, place: Place) -> Progress:
        self.place = Place(place.attempt, place.part)
        return Progress(str(self.place), MessageRewound(reply_id=self._reply_id, part=place.part))
