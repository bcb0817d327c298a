"""Stores turns of a conversation: a message with the pending reply to it, or another reply to the same message."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import Conflict
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation import Branch, ConversationRepository, HistoryMessage, Reach
from app.schemas.conversation import NEW_TITLE
from app.schemas.message import MessageCreate, MessageRead
from app.services.ai import Prompt, UserMessage
from app.services.ai.base import BYTES_PER_TOKEN
from app.services.chat.conversations import title_from
from app.services.chat.history import fit_messages
from app.services.chat.limits import ChatLimits
from app.services.chat.replies import PromptLoader
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Reply, ReplyStream, to_reply

HISTORY_MAX_MESSAGES = 200
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


class TurnWriter:
    """Stores one user's turns. Raises NotFound, Conflict, TooManyReplies, BudgetExhausted."""

    def __init__(
        self,
        settings: ChatSettings,
        database: Database,
        chat_limits: ChatLimits,
        reply_stream: ReplyStream,
        user_id: UUID,
    ) -> None:
        self._settings = settings
        self._database = database
        self._chat_limits = chat_limits
        self._reply_stream = reply_stream
        self._user_id = user_id

    async def send(self, data: MessageCreate, session: AsyncSession, reply: Message) -> tuple[Exchange, PromptLoader]:
        """Stores a message and the pending reply to it; returns both, and what loads the prompt."""
        conversations = ConversationRepository(session, self._user_id)
        message = Message(id=uuid7(), role=Role.user, status=MessageStatus.completed, content=data.content)
        branch = await self._open(conversations, data)
        prompt = await self._reserve(session, branch.newest, message, reply, data.model)
        await conversations.append(branch, message, reply)
        return to_exchange(message, reply), self._loader(branch.newest, message, prompt)

    async def regenerate(
        self, reply_id: UUID, model: str | None, session: AsyncSession, reply: Message
    ) -> tuple[Exchange, PromptLoader]:
        """Stores a pending reply beside another one; returns it with the message, and what loads the prompt."""
        conversations = ConversationRepository(session, self._user_id)
        message, _first = await conversations.exchange(reply_id)
        branch = _check_siblings(await conversations.answer_again(message, self._reach))
        self._check_free(branch.newest)
        prompt = await self._reserve(session, branch.newest, message, reply, model)
        await conversations.append(branch, reply)
        return to_exchange(message, reply), self._loader(branch.newest, message, prompt)

    async def _open(self, conversations: ConversationRepository, data: MessageCreate) -> Branch:
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
        else:
            conversation = await conversations.begin(title_from(data.content))
            return Branch(conversation, conversation.id)
        self._check_free(branch.newest)
        if not branch.last_position and branch.conversation.title == NEW_TITLE:
            branch.conversation.title = title_from(data.content)
        return branch

    def _check_free(self, before: Sequence[HistoryMessage]) -> None:
        """Raises ConversationBusy when a message would wait for a reply, and must not."""
        if _is_busy(before) and self._settings.concurrent_messages == "reject":
            raise ConversationBusy("The last message of this conversation is still being answered; wait or stop it.")

    async def _reserve(
        self,
        session: AsyncSession,
        before: Sequence[HistoryMessage],
        message: Message,
        reply: Message,
        model: str | None,
    ) -> Prompt:
        """Returns the prompt, for which the budget suffices. Raises TooManyReplies, BudgetExhausted."""
        prompt = self._prompt(before, message, model)
        await self._chat_limits.reserve(session, self._user_id, reply.id, prompt)
        return prompt

    def _prompt(self, before: Sequence[HistoryMessage], message: Message, model: str | None) -> Prompt:
        messages = [*fit_messages(self._settings.history_max_tokens, before), UserMessage(message.content)]
        return Prompt(messages, self._settings.ai_system_prompt, model)

    def _loader(self, before: Sequence[HistoryMessage], message: Message, prompt: Prompt) -> PromptLoader:
        """Returns a function that loads the prompt: at once, or after the previous reply has ended, to include it."""

        async def load() -> Prompt:
            if not _is_busy(before):
                return prompt
            return self._prompt(await self._wait_for(before[0].id), message, prompt.model)

        return load

    @property
    def _reach(self) -> Reach:
        """Limits how much history is loaded: more can never fit."""
        return Reach(HISTORY_MAX_MESSAGES, self._settings.history_max_tokens * BYTES_PER_TOKEN)

    async def _wait_for(self, reply_id: UUID) -> Sequence[HistoryMessage]:
        """Waits until a reply has ended, and returns it and the messages before it, newest first."""
        async with self._database.read() as session:
            reply = await ConversationRepository(session, self._user_id).get_reply(reply_id)
        await self._reply_stream.ended(to_reply(reply))
        async with self._database.read() as session:
            return await ConversationRepository(session, self._user_id).up_from(reply_id, self._reach)


def to_exchange(message: Message, reply: Message) -> Exchange:
    return Exchange(MessageRead.model_validate(message), to_reply(reply))


def _is_busy(before: Sequence[HistoryMessage]) -> bool:
    return bool(before) and before[0].status is MessageStatus.pending


def _check_siblings(branch: Branch) -> Branch:
    """Returns the branch. Raises TooManyAlternatives."""
    if branch.siblings >= MAX_SIBLINGS:
        raise TooManyAlternatives(f"A message has at most {MAX_SIBLINGS} alternatives; continue one of them.")
    return branch
