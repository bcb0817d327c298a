from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from uuid import UUID

from pydantic import Field, TypeAdapter
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.database import Database
from app.core.errors import Invalid
from app.core.events import Events
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Role
from app.repositories.base import Page
from app.repositories.conversation import ConversationRepository, Said
from app.schemas.base import changed
from app.schemas.conversation import ConversationCreate, ConversationUpdate
from app.schemas.message import ChatEvent, MessageCreate, MessageCreated, MessageDelta, MessageRead, ReplyEnd
from app.services.ai import Line
from app.services.replies import Replies, Turn

HISTORY_MAX_MESSAGES = 200
TITLE_CHARACTERS = 50
CHARACTERS_PER_TOKEN = 4

_reply_end = TypeAdapter[ReplyEnd](ReplyEnd)


class ChatSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    message_max_characters: int = Field(default=32_000, ge=1, le=1_000_000)
    history_max_tokens: int = Field(default=8_000, ge=0, le=10_000_000)


@dataclass(frozen=True, slots=True)
class Progress:
    """An event and the number of characters of the reply that it leads to. No event: the reply is still alive."""

    offset: int
    event: ChatEvent | None = None


class ChatService:
    """One person's conversations. No method holds a database connection while the model speaks."""

    def __init__(
        self, settings: ChatSettings, database: Database, events: Events, replies: Replies, user_id: UUID
    ) -> None:
        self._settings = settings
        self._database = database
        self._events = events
        self._replies = replies
        self._user_id = user_id

    async def create(self, data: ConversationCreate) -> Conversation:
        async with self._database.write() as session:
            return await ConversationRepository(session, self._user_id).create(title=data.title)

    async def list(self, limit: int, cursor: UUID | None) -> Page[Conversation]:
        async with self._database.read() as session:
            return await ConversationRepository(session, self._user_id).list(limit, cursor)

    async def get(self, id: UUID) -> Conversation:
        async with self._database.read() as session:
            return await ConversationRepository(session, self._user_id).get(id)

    async def update(self, id: UUID, data: ConversationUpdate) -> Conversation:
        async with self._database.write() as session:
            conversations = ConversationRepository(session, self._user_id)
            return await conversations.update(await conversations.get(id, lock=True), changed(data))

    async def delete(self, id: UUID) -> None:
        async with self._database.write() as session:
            conversations = ConversationRepository(session, self._user_id)
            await conversations.delete(await conversations.get(id, lock=True))

    async def messages(self, id: UUID, limit: int, cursor: UUID | None) -> Page[Message]:
        async with self._database.read() as session:
            return await ConversationRepository(session, self._user_id).messages(id, limit, cursor)

    async def send(self, data: MessageCreate) -> Turn:
        """Stores the message and a pending reply, and lets the reply begin. Raises Invalid, NotFound."""
        if len(data.content) > self._settings.message_max_characters:
            raise Invalid(f"A message has at most {self._settings.message_max_characters} characters.")
        turn = await self._begin(data)
        self._replies.start(turn)
        return turn

    async def follow(self, turn: Turn) -> AsyncIterator[Progress]:
        """What happens to the reply, from its beginning to its end. Leaving does not stop it."""
        message, reply_id = turn.user_message, turn.reply.id
        yield Progress(
            0, MessageCreated(conversation_id=message.conversation_id, user_message=message, reply_id=reply_id)
        )
        async for chunk in self._events.follow(reply_id):
            if chunk.end is not None:
                yield Progress(chunk.offset, _reply_end.validate_json(chunk.end))
            elif chunk.text:
                yield Progress(chunk.offset, MessageDelta(reply_id=reply_id, text=chunk.text))
            else:
                yield Progress(chunk.offset)

    async def wait(self, turn: Turn) -> MessageRead:
        """The reply as it was stored when it ended, however it ended."""
        async for chunk in self._events.follow(turn.reply.id):
            if chunk.end is not None:
                return _reply_end.validate_json(chunk.end).message
        raise AssertionError("a log ends only with its last chunk")

    async def _begin(self, data: MessageCreate) -> Turn:
        message = Message(role=Role.user, status=MessageStatus.completed, content=data.content)
        reply = Message(role=Role.assistant, status=MessageStatus.pending, content="")
        async with self._database.write() as session:
            conversations = ConversationRepository(session, self._user_id)
            conversation, newest = await self._open(conversations, data)
            await conversations.append(conversation, newest[0].position if newest else 0, message, reply)
        lines = [*_within(self._settings.history_max_tokens, newest), Line("user", data.content)]
        return Turn(self._user_id, MessageRead.model_validate(message), MessageRead.model_validate(reply), lines)

    async def _open(
        self, conversations: ConversationRepository, data: MessageCreate
    ) -> tuple[Conversation, Sequence[Said]]:
        """The conversation, closed to other writers, and what was said in it last."""
        if data.conversation_id is None:
            return await conversations.create(title=_title(data.content)), []
        conversation = await conversations.get(data.conversation_id, lock=True)
        return conversation, await conversations.newest(conversation, HISTORY_MAX_MESSAGES)


def _title(content: str) -> str:
    return " ".join(content.split())[:TITLE_CHARACTERS].strip() or "New conversation"


def _within(max_tokens: int, newest: Sequence[Said]) -> list[Line]:
    """The newest lines that fit, in order. Each is kept whole, and the first is the user's, as providers ask."""
    lines = list(_newest_that_fit(max_tokens, newest))[::-1]
    return list(dropwhile(lambda line: line.role == "assistant", lines))


def _newest_that_fit(max_tokens: int, newest: Sequence[Said]) -> Iterator[Line]:
    left = max_tokens
    for said in newest:
        left -= 1 + len(said.content) // CHARACTERS_PER_TOKEN
        if left < 0:
            return
        if said.content.strip() and said.role in (Role.user, Role.assistant):
            yield Line("user" if said.role is Role.user else "assistant", said.content)
