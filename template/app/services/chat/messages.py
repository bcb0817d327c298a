from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import Invalid, NotFound
from app.core.security import fingerprint
from app.core.streams.base import TextStreams
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation import ConversationRepository
from app.repositories.idempotency_key import IdempotencyRepository
from app.schemas.client_tool import ToolResultsCreate
from app.schemas.message import (
    ApprovalAnswer,
    FeedbackUpdate,
    MessageCreate,
    MessageCreated,
    MessageRead,
    RegenerateCreate,
)
from app.services.chat.limits import ChatLimits
from app.services.chat.model_replies import ModelReplies
from app.services.chat.replies import Replies
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Progress, Reply, ReplyStream, ReplyWatch, to_reply
from app.services.chat.turns import Exchange, TurnWriter, Writers, to_exchange
from app.services.chat.writers import AgentWriter, Pause

SINCE_0_2 = ("parent_id", "replaces", "agent_id", "reasoning_effort", "tools")
"""Names the fields that are left out of fingerprints where they are not sent, as versions before 0.2 do."""


@dataclass(frozen=True, slots=True)
class Thread:
    """Identifies a conversation, and the last message of the branch that is shown, which is a reply."""

    conversation_id: UUID
    last_id: UUID | None
    """Stays None as long as there is no message."""


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
        agents: AgentWriter | None,
        user_id: UUID,
    ) -> None:
        self._settings = settings
        self._database = database
        self._replies = replies
        self._chat_limits = chat_limits
        self._user_id = user_id
        stream = ReplyStream(database, streams, watch, user_id)
        self._writers = Writers(
            ModelReplies(settings, database, replies, chat_limits, reply_stream=stream, user_id=user_id), agents
        )
        self._turns = TurnWriter(settings, self._writers, user_id)

    async def send(
        self, data: MessageCreate, key: str | None = None, *, client_id: str | None = None, request: str | None = None
    ) -> Exchange:
        """Stores the message and a pending reply, and starts the reply. A new conversation gets the client's id.

        A message that was sent with this idempotency key before is returned and not sent again; `request` is what the
        client has sent, where `data` depends on more than that. Raises Invalid, NotFound, Conflict, TooManyRequests,
        TooManyReplies, TooManyExecutions, BudgetExhausted.
        """
        if len(data.content) > self._settings.message_max_characters:
            raise Invalid(f"A message has at most {self._settings.message_max_characters} characters.")
        asked = partial(_fingerprint, "message", data, request)
        return await self._answer(data.model, partial(self._turns.send, data, client_id), asked, key)

    async def regenerate(
        self, reply_id: UUID, data: RegenerateCreate, key: str | None = None, *, request: str | None = None
    ) -> Exchange:
        """Starts another reply to the same message, beside the first, and shows the new one. Raises like `send`."""
        asked = partial(_fingerprint, f"regenerate {reply_id}", data, request)
        return await self._answer(data.model, partial(self._turns.regenerate, reply_id, data), asked, key)

    async def find(self, reply_id: UUID) -> Exchange:
        """Returns a reply and the message that it answers. Raises NotFound."""
        async with self._database.read() as session:
            return to_exchange(*await ConversationRepository(session, self._user_id).exchange(reply_id))

    async def find_thread(self, id: str) -> Thread | None:
        """Returns a conversation by its own id, or by the one that a client has given it."""
        async with self._database.read() as session:
            found = await ConversationRepository(session, self._user_id).find_called(id)
        if found is None:
            return None
        last_id = found.active_message_id or found.last_message_id
        return Thread(found.id, None if last_id == found.id else last_id)

    async def find_first(self, conversation_id: UUID, named: UUID | None) -> UUID | None:
        """Returns the id of the message of the user that is named, or else of a first one of the conversation."""
        async with self._database.read() as session:
            conversations = ConversationRepository(session, self._user_id)
            found = named and await conversations.find_message(named, conversation_id)
            if found and found.role is Role.user:
                return found.id
            return await conversations.find_after(conversation_id, conversation_id)

    async def find_reply(
        self, conversation_id: UUID, named: UUID | None, parent_id: UUID | None, content: str | None
    ) -> UUID | None:
        """Returns the id of the reply that is named, or of the newest to the message that is.

        Without them it is the newest reply to a message with this text that follows `parent_id`, or nothing.
        """
        async with self._database.read() as session:
            conversations = ConversationRepository(session, self._user_id)
            found = named and await conversations.find_message(named, conversation_id)
            if found and found.role is Role.assistant:
                return found.id
            message_id = found and found.id
            if message_id is None and content is not None:
                message_id = await conversations.find_after(parent_id or conversation_id, conversation_id, content)
            return message_id and await conversations.find_after(message_id, conversation_id)

    def follow(self, exchange: Exchange, after: str | None = None) -> AsyncGenerator[Progress]:
        """Returns the events of a reply until its end: those after the one with this id, or all of them.

        Closing the generator does not stop the reply. Raises Invalid.
        """
        events = self.follow_reply(exchange.reply, after)
        return events if after is not None else _from_the_beginning(exchange, events)

    def follow_reply(self, reply: Reply, after: str | None = None) -> AsyncGenerator[Progress]:
        return self._writers.of_reply(reply.message.execution_id).follow(reply, after)

    async def wait(self, reply: Reply) -> MessageRead:
        """Returns the reply as it is stored at its end, or as far as it is when it waits for a person."""
        return await self._writers.of_reply(reply.message.execution_id).wait(reply)

    async def stop(self, reply_id: UUID) -> Reply:
        """Requests that a reply stops and keeps the text that it has; one that has ended stays so. Raises NotFound."""
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            row = await conversations.get_reply(reply_id)
            if row.status is not MessageStatus.pending:
                return to_reply(row)
            wake = await self._writers.of_reply(row.execution_id).stop(session, row)
        wake()
        return to_reply(row)

    async def answer(self, reply_id: UUID, data: ApprovalAnswer) -> None:
        """Approves or denies a tool call that waits for it; the reply goes on. Raises NotFound, Conflict."""
        if self._writers.agents is None:
            raise NotFound("Reply", reply_id)
        await self._writers.agents.answer(reply_id, data)

    async def give_results(self, reply_id: UUID, data: ToolResultsCreate) -> None:
        """Gives the results of the client's own tools; the reply goes on. Raises Invalid, NotFound, Conflict."""
        if self._writers.agents is None:
            raise NotFound("Reply", reply_id)
        await self._writers.agents.give_results(reply_id, data)

    async def find_pause(self, reply_id: UUID, tool_call_ids: Collection[str]) -> Pause | None:
        """Returns where a client goes on that has answered these calls of a reply; None if none of them asked."""
        return await self._writers.agents.find_pause(reply_id, tool_call_ids) if self._writers.agents else None

    async def client_tools(self, reply: MessageRead) -> Collection[str]:
        """Returns the names of the tools that the client runs for a reply."""
        agents = self._writers.agents
        return () if agents is None or reply.execution_id is None else await agents.client_tools(reply.id)

    async def rate(self, reply_id: UUID, data: FeedbackUpdate) -> MessageRead:
        """Stores the user's rating of a reply and their comment on it. Raises NotFound."""
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            row = await conversations.update_reply(reply_id, rating=data.rating, comment=data.comment)
            row = row or await conversations.get_reply(reply_id)
            return await self._read(session, row)

    async def read(self, reply_id: UUID) -> MessageRead:
        """Returns a reply as far as it is. Raises NotFound."""
        async with self._database.read() as session:
            return await self._read(session, await ConversationRepository(session, self._user_id).get_reply(reply_id))

    async def _read(self, session: AsyncSession, row: Message) -> MessageRead:
        message = MessageRead.model_validate(row)
        if row.status is MessageStatus.pending:
            written = await self._writers.of_reply(row.execution_id).read_written(session, [row.id])
            if found := written.get(row.id):
                return found.add_to(message)
        return message

    async def _answer(self, model: str | None, store: "_Store", asked: Callable[[], str], key: str | None) -> Exchange:
        """Stores what is asked, in one transaction, and starts the reply, unless the key was used before."""
        self._replies.check(model)
        await self._chat_limits.send(self._user_id)
        reply = Message(id=uuid7(), role=Role.assistant, status=MessageStatus.pending, content="")
        async with self._database.write(self._user_id) as session:
            if key:
                first_id = await IdempotencyRepository(session, self._user_id).claim(key, asked(), reply.id)
                if first_id != reply.id:
                    return to_exchange(*await ConversationRepository(session, self._user_id).exchange(first_id))
            exchange, start = await store(session, reply)
        start()
        return exchange


_Store = Callable[[AsyncSession, Message], Awaitable[tuple[Exchange, Callable[[], None]]]]
"""Stores a pending reply and what belongs to it; returns the exchange, and what starts the reply."""


def _fingerprint(what: str, data: MessageCreate | RegenerateCreate, request: str | None) -> str:
    """Returns what versions before 0.2 do for a message of their kind, so that its key holds across updates."""
    if request is not None:
        return fingerprint(request)
    left_out = {name for name in SINCE_0_2 if name not in data.model_fields_set}
    return fingerprint(f"{what} {data.model_dump_json(exclude=left_out)}")


async def _from_the_beginning(exchange: Exchange, events: AsyncGenerator[Progress]) -> AsyncGenerator[Progress]:
    message = exchange.message
    created = MessageCreated(
        conversation_id=message.conversation_id, user_message=message, reply_id=exchange.reply.message.id
    )
    yield Progress(0 if exchange.reply.message.execution_id is None else "0.0.0", created)
    async with aclosing(events):
        async for step in events:
            yield step
