from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import Invalid
from app.core.security import fingerprint
from app.core.streams.base import TextStreams
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation import ConversationRepository
from app.repositories.idempotency_key import IdempotencyRepository
from app.schemas.message import FeedbackUpdate, MessageCreate, MessageCreated, MessageRead, RegenerateCreate, ReplyEnd
from app.services.chat.limits import ChatLimits
from app.services.chat.replies import PromptLoader, Replies, ReplyRequest
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Progress, Reply, ReplyStream, ReplyWatch, to_reply
from app.services.chat.turns import Exchange, TurnWriter, to_exchange


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
        self._turns = TurnWriter(settings, database, chat_limits, self._reply_stream, user_id)

    async def send(self, data: MessageCreate, key: str | None = None) -> Exchange:
        """Stores the message and a pending reply, and starts the reply.

        A message that was sent with this idempotency key before is returned and not sent again. Raises Invalid,
        NotFound, Conflict, TooManyRequests, TooManyReplies, BudgetExhausted.
        """
        if len(data.content) > self._settings.message_max_characters:
            raise Invalid(f"A message has at most {self._settings.message_max_characters} characters.")
        return await self._answer(data.model, partial(self._turns.send, data), _fingerprint(data), key)

    async def regenerate(self, reply_id: UUID, data: RegenerateCreate, key: str | None = None) -> Exchange:
        """Starts another reply to the same message, beside the first, and shows the new one. Raises like `send`."""
        asked = fingerprint(f"regenerate {reply_id} {data.model_dump_json()}")
        return await self._answer(data.model, partial(self._turns.regenerate, reply_id, data.model), asked, key)

    async def find(self, reply_id: UUID) -> Exchange:
        """Returns a reply and the message that it answers. Raises NotFound."""
        async with self._database.read() as session:
            return to_exchange(*await ConversationRepository(session, self._user_id).exchange(reply_id))

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

    async def _answer(self, model: str | None, store: "_Store", asked: str, key: str | None) -> Exchange:
        """Stores what is asked, in one transaction, and starts the reply, unless the key was used before."""
        self._replies.check(model)
        await self._chat_limits.send(self._user_id)
        reply = Message(id=uuid7(), role=Role.assistant, status=MessageStatus.pending, content="")
        reply.process_id = self._replies.process_id
        async with self._database.write(self._user_id) as session:
            if key:
                first_id = await IdempotencyRepository(session, self._user_id).claim(key, asked, reply.id)
                if first_id != reply.id:
                    return to_exchange(*await ConversationRepository(session, self._user_id).exchange(first_id))
            exchange, load_prompt = await store(session, reply)
        self._replies.start(ReplyRequest(self._user_id, exchange.reply.message, load_prompt))
        return exchange


_Store = Callable[[AsyncSession, Message], Awaitable[tuple[Exchange, PromptLoader]]]
"""Stores a pending reply and what belongs to it; returns the exchange, and what loads the prompt."""


def _fingerprint(data: MessageCreate) -> str:
    """Returns what versions before 0.2 do for a message of their kind, so that its key holds across updates."""
    left_out = {name for name in ("parent_id", "replaces") if getattr(data, name) is None}
    return fingerprint(f"message {data.model_dump_json(exclude=left_out)}")


def _created(exchange: Exchange) -> MessageCreated:
    message = exchange.message
    return MessageCreated(
        conversation_id=message.conversation_id, user_message=message, reply_id=exchange.reply.message.id
    )
