"""Stores turns of a conversation: a message with the pending reply to it, or another reply to the same message."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.errors import Conflict, NotFound
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation import Branch, ConversationRepository, Reach
from app.schemas.conversation import NEW_TITLE
from app.schemas.message import MessageCreate, MessageRead, RegenerateCreate
from app.services.chat.conversations import title_from
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Reply, to_reply
from app.services.chat.summaries import request_summary
from app.services.chat.writers import AgentWriter, ReplyWriter, Turn

MAX_SIBLINGS = 200
"""Limits the alternatives of a message, all of whose ids are listed with it."""


class ConversationBusy(Conflict):
    code = "conversation_busy"


class TooManyAlternatives(Conflict):
    code = "too_many_alternatives"


@dataclass(frozen=True, slots=True)
class Exchange:
    """Holds a user's message and the reply to it."""

    message: MessageRead
    reply: Reply


@dataclass(frozen=True, slots=True)
class Writers:
    """Holds who writes replies: a model, and agents where the service has them."""

    model: ReplyWriter
    agents: AgentWriter | None

    def of_agent(self, agent_id: UUID | None) -> ReplyWriter:
        """Returns who is asked. Raises NotFound."""
        if agent_id is None:
            return self.model
        if self.agents is None:
            raise NotFound("Agent", agent_id)
        return self.agents

    def of_reply(self, execution_id: UUID | None) -> ReplyWriter:
        """Returns who writes a reply that is stored."""
        return self.model if execution_id is None else self.agents or self.model


class TurnWriter:
    """Stores one user's turns. Raises NotFound, Conflict, TooManyReplies, BudgetExhausted."""

    def __init__(self, settings: ChatSettings, writers: Writers, user_id: UUID) -> None:
        self._settings = settings
        self._writers = writers
        self._user_id = user_id

    async def send(
        self, data: MessageCreate, client_id: str | None, session: AsyncSession, reply: Message
    ) -> tuple[Exchange, Callable[[], None]]:
        """Stores a message and the pending reply to it; returns both, and what starts the reply.

        A conversation that begins gets `client_id`, unless another request has just begun the one with that id.
        """
        conversations = ConversationRepository(session, self._user_id)
        message = Message(id=uuid7(), role=Role.user, status=MessageStatus.completed, content=data.content)
        branch = await self._open(conversations, data, client_id)
        start = await self._begin(session, _turn(data, branch, message, reply, branch.conversation.agent_id))
        await conversations.append(branch, message, reply)
        return to_exchange(message, reply), start

    async def regenerate(
        self, reply_id: UUID, data: RegenerateCreate, session: AsyncSession, reply: Message
    ) -> tuple[Exchange, Callable[[], None]]:
        """Stores a pending reply beside another one; returns it with the message, and what starts it."""
        conversations = ConversationRepository(session, self._user_id)
        message, first = await conversations.exchange(reply_id)
        branch = _check_siblings(await conversations.answer_again(message, self._reach))
        start = await self._begin(session, _turn(data, branch, message, reply, first.agent_id))
        await conversations.append(branch, reply)
        return to_exchange(message, reply), start

    async def _begin(self, session: AsyncSession, turn: Turn) -> Callable[[], None]:
        self._check_free(turn)
        start = await self._writers.of_agent(turn.agent_id).begin(session, turn)
        if self._settings.history_summary_model:
            await request_summary(session, self._user_id, turn, self._settings.history_max_tokens)
        return start

    async def _open(self, conversations: ConversationRepository, data: MessageCreate, client_id: str | None) -> Branch:
        """Creates or locks the conversation; returns where it goes on. Raises NotFound, Conflict."""
        if data.replaces is not None:
            replaced = await conversations.get_message(data.replaces, Role.user, data.conversation_id)
            branch = _check_siblings(await conversations.fork(replaced, self._reach))
        elif data.parent_id is not None:
            parent = await conversations.get_message(data.parent_id, Role.assistant, data.conversation_id)
            branch = _check_siblings(await conversations.go_on_after(parent, self._reach))
        elif data.conversation_id is not None:
            conversation = await conversations.get(data.conversation_id, lock=True)
            branch = await conversations.read_branch(conversation, self._reach)
        elif client_id is not None:
            branch = await self._begin_called(conversations, data, client_id)
        else:
            conversation = await conversations.begin(title_from(data.content), agent_id=data.agent_id)
            return Branch(conversation, conversation.id)
        if not branch.last_position and branch.conversation.title == NEW_TITLE:
            branch.conversation.title = title_from(data.content)
        return branch

    async def _begin_called(self, conversations: ConversationRepository, data: MessageCreate, client_id: str) -> Branch:
        """Begins the conversation with a client's id, or goes on with it if another request has just begun it."""
        new = await conversations.begin_called(client_id, title_from(data.content), agent_id=data.agent_id)
        if new is not None:
            return Branch(new, new.id)
        found = await conversations.find_called(client_id)
        if found is None:
            raise NotFound("Conversation", client_id)
        return await conversations.read_branch(await conversations.get(found.id, lock=True), self._reach)

    def _check_free(self, turn: Turn) -> None:
        """Raises ConversationBusy when a message would wait for a reply, and must not.

        None waits for an agent, which itself may wait for a person for days.
        """
        newest = turn.branch.newest
        if not newest or newest[0].status is not MessageStatus.pending:
            return
        involves_agent = turn.agent_id is not None or newest[0].agent_id is not None
        if involves_agent or self._settings.concurrent_messages == "reject":
            raise ConversationBusy(
                "The last reply has not ended: wait, stop it, or answer the call that it asks about."
            )

    @property
    def _reach(self) -> Reach:
        """Limits how much history is loaded: more can never fit."""
        return Reach.of_tokens(self._settings.history_max_tokens)


def to_exchange(message: Message, reply: Message) -> Exchange:
    return Exchange(MessageRead.model_validate(message), to_reply(reply))


def _turn(
    data: MessageCreate | RegenerateCreate, branch: Branch, message: Message, reply: Message, agent_id: UUID | None
) -> Turn:
    """Returns what is asked for; the agent with this id answers if the request names none."""
    if "agent_id" in data.model_fields_set:
        agent_id = data.agent_id
    model = data.model or branch.conversation.model
    return Turn(branch, message, reply, agent_id, model, data.reasoning_effort, data.tools, message.summary)


def _check_siblings(branch: Branch) -> Branch:
    """Returns the branch. Raises TooManyAlternatives."""
    if branch.siblings >= MAX_SIBLINGS:
        raise TooManyAlternatives(f"A message has at most {MAX_SIBLINGS} alternatives; continue one of them.")
    return branch
