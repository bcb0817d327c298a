from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import Conflict, Invalid
from app.core.security import fingerprint
from app.core.streams.base import TextStreams
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation import ConversationRepository, HistoryMessage
from app.repositories.idempotency_key import IdempotencyRepository
from app.schemas.message import FeedbackUpdate, MessageCreate, MessageCreated, MessageRead, ReplyEnd
from app.services.ai import Prompt, UserMessage
from app.services.ai.base import BYTES_PER_TOKEN
from app.services.chat.conversations import title_from
from app.services.chat.history import fit_messages
from app.services.chat.limits import ChatLimits
from app.services.chat.replies import PromptLoader, Replies, ReplyRequest
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Progress, Reply, ReplyStream, ReplyWatch, to_reply

HISTORY_MAX_MESSAGES = 200


class ConversationBusy(Conflict):
    code = "conversation_busy"


@dataclass(frozen=True, slots=True)
class Exchange:
    """Holds a user's message and the reply to it."""

    message: MessageRead
    reply: Reply


class ChatService:
    """Sends one user's messages and follows the replies. No method holds a database connection while a model works."""

    def __init__(
        self,
        settings: ChatSettings,
        database: Database,
        streams: TextStreams,
        replies: Replies,
        watch: ReplyWatch,
        *,
        chat_limits: ChatLimits,
        user_id: UUID,
    ) -> None:
        self._settings = settings
        self._database = database
        self._replies = replies
        self._chat_limits = chat_limits
        self._user_id = user_id
        self._reply_stream = ReplyStream(database, streams, watch, user_id)

    async def send(self, data: MessageCreate, key: str | None = None) -> Exchange:
        """Stores the message and a pending reply, and starts the reply.

        A message that was sent with this idempotency key before is returned and not sent again. Raises Invalid,
        NotFound, Conflict, TooManyRequests, TooManyReplies, BudgetExhausted.
        """
        if len(data.content) > self._settings.message_max_characters:
            raise Invalid(f"A message has at most {self._settings.message_max_characters} characters.")
        self._replies.check(data.model)
        await self._chat_limits.send(self._user_id)
        exchange, load_prompt = await self._begin(data, key)
        if load_prompt is not None:
            self._replies.start(ReplyRequest(self._user_id, exchange.reply.message, load_prompt))
        return exchange

    async def find(self, reply_id: UUID) -> Exchange:
        """Returns a reply and the message that it answers. Raises NotFound."""
        async with self._database.read() as session:
            return _exchange(*await ConversationRepository(session, self._user_id).exchange(reply_id))

    async def follow(self, exchange: Exchange, offset: int | None = None) -> AsyncGenerator[Progress]:
        """Yields the events of a reply until its end: those after `offset` characters, or all of them (None).

        Closing the generator does not stop the reply.
        """
        if offset is None:
            yield Progress(0, _created(exchange))
        async for step in self._reply_stream.follow(exchange.reply, offset or 0):
            yield step

    async def wait(self, reply: Reply) -> ReplyEnd:
        """Waits for the end of a reply, and returns it with the reply as it was stored then."""
        return await self._reply_stream.ended(reply)

    async def stop(self, reply_id: UUID) -> Reply:
        """Requests that a reply stops and keeps the text that it has; one that has ended stays so. Raises NotFound.

        The process that generates the reply finds the request in the reply's row.
        """
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            reply = to_reply(await conversations.request_stop(reply_id))
        self._replies.stop(reply_id)
        return reply

    async def rate(self, reply_id: UUID, data: FeedbackUpdate) -> MessageRead:
        """Stores the user's rating of a reply and their comment on it. Raises NotFound."""
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            row = await conversations.update_reply(reply_id, rating=data.rating, comment=data.comment)
            return MessageRead.model_validate(row or await conversations.get_reply(reply_id))

    async def _begin(self, data: MessageCreate, key: str | None) -> tuple[Exchange, PromptLoader | None]:
        """Stores message and reply. Returns no loader if the idempotency key was used before: that reply has begun."""
        message_id, reply_id = uuid7(), uuid7()
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            first_id = await self._claim(session, data, key, reply_id) if key else reply_id
            if first_id != reply_id:
                return _exchange(*await conversations.exchange(first_id)), None
            conversation, newest = await self._open(conversations, data)
            prompt = self._prompt(newest, data)
            await self._chat_limits.reserve(session, self._user_id, reply_id, prompt)
            message = Message(id=message_id, role=Role.user, status=MessageStatus.completed, content=data.content)
            reply = self._reply(reply_id)
            await conversations.append(conversation, newest[0].position if newest else 0, message, reply)
            return _exchange(message, reply), self._loader(message, newest, prompt, data)

    async def _claim(self, session: AsyncSession, data: MessageCreate, key: str, reply_id: UUID) -> UUID:
        asked = fingerprint(f"message {data.model_dump_json()}")
        return await IdempotencyRepository(session, self._user_id).claim(key, asked, reply_id)

    async def _open(
        self, conversations: ConversationRepository, data: MessageCreate
    ) -> tuple[Conversation, Sequence[HistoryMessage]]:
        """Creates or locks the conversation; returns it and its newest messages. Raises NotFound, ConversationBusy."""
        if data.conversation_id is None:
            return await conversations.create(title=title_from(data.content)), []
        conversation = await conversations.get(data.conversation_id, lock=True)
        newest = await conversations.newest(conversation.id, HISTORY_MAX_MESSAGES, self._reach)
        if _is_busy(newest) and self._settings.concurrent_messages == "reject":
            raise ConversationBusy("The last message of this conversation is still being answered; wait or stop it.")
        return conversation, newest

    def _reply(self, id: UUID) -> Message:
        process_id = self._replies.process_id
        return Message(id=id, role=Role.assistant, status=MessageStatus.pending, content="", process_id=process_id)

    def _prompt(self, newest: Sequence[HistoryMessage], data: MessageCreate) -> Prompt:
        messages = [*fit_messages(self._settings.history_max_tokens, newest), UserMessage(data.content)]
        return Prompt(messages, self._settings.ai_system_prompt, data.model)

    def _loader(
        self, message: Message, newest: Sequence[HistoryMessage], prompt: Prompt, data: MessageCreate
    ) -> PromptLoader:
        """Returns a function that loads the prompt: at once, or after the previous reply has ended, to include it."""

        async def load() -> Prompt:
            if not _is_busy(newest):
                return prompt
            return self._prompt(await self._after(message, newest[0].id), data)

        return load

    @property
    def _reach(self) -> int:
        """Limits how many characters of history are loaded: more can never fit."""
        return self._settings.history_max_tokens * BYTES_PER_TOKEN

    async def _after(self, message: Message, previous_id: UUID) -> Sequence[HistoryMessage]:
        """Waits until the previous reply has ended, and returns the messages before this one, newest first."""
        previous = await self.find(previous_id)
        await self._reply_stream.ended(previous.reply)
        async with self._database.read() as session:
            conversations = ConversationRepository(session, self._user_id)
            return await conversations.newest(message.conversation_id, HISTORY_MAX_MESSAGES, self._reach, message.id)


def _exchange(message: Message, reply: Message) -> Exchange:
    return Exchange(MessageRead.model_validate(message), to_reply(reply))


def _created(exchange: Exchange) -> MessageCreated:
    message = exchange.message
    return MessageCreated(
        conversation_id=message.conversation_id, user_message=message, reply_id=exchange.reply.message.id
    )


def _is_busy(newest: Sequence[HistoryMessage]) -> bool:
    return bool(newest) and newest[0].status is MessageStatus.pending
