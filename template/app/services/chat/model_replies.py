"""Lets a model write replies, from the text of the conversation."""

import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.core.errors import Invalid
from app.models.message import Message, MessageStatus
from app.repositories.conversation import ConversationRepository, HistoryMessage, Reach
from app.schemas.message import MessageRead
from app.services.ai import Prompt, UserMessage, estimate_tokens
from app.services.chat.history import begin_with, fit_messages, since_summary
from app.services.chat.limits import ChatLimits
from app.services.chat.replies import PromptLoader, Replies, ReplyRequest
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Progress, Reply, ReplyStream, to_reply
from app.services.chat.writers import Turn, Written


class ModelReplies:
    def __init__(
        self,
        settings: ChatSettings,
        database: Database,
        replies: Replies,
        chat_limits: ChatLimits,
        *,
        reply_stream: ReplyStream,
        user_id: UUID,
    ) -> None:
        self._settings = settings
        self._database = database
        self._replies = replies
        self._chat_limits = chat_limits
        self._reply_stream = reply_stream
        self._user_id = user_id

    async def begin(self, session: AsyncSession, turn: Turn) -> Callable[[], None]:
        """Reserves what the reply may use. Raises Invalid, TooManyReplies, BudgetExhausted."""
        self._replies.check(turn.model)
        if turn.tools:
            raise Invalid("A model without an agent calls no tools: name an agent in agent_id.")
        prompt = self._prompt(turn.branch.newest, turn)
        await self._chat_limits.reserve(session, self._user_id, turn.reply.id, prompt)
        turn.reply.process_id = self._replies.process_id
        return partial(self._start, turn, self._loader(turn, prompt))

    def follow(self, reply: Reply, after: str | None) -> AsyncGenerator[Progress]:
        """Returns the reasoning and the text after so many characters, and the end."""
        if after is not None and not re.fullmatch("[0-9]{1,9}", after):
            raise Invalid("The id of an event of this reply is a number, of at most nine digits.")
        return self._reply_stream.follow(reply, int(after or 0))

    async def wait(self, reply: Reply) -> MessageRead:
        return (await self._reply_stream.ended(reply)).message

    async def stop(self, session: AsyncSession, reply: Message) -> Callable[[], None]:
        """Leaves the request in the row, where the process that generates the reply finds it."""
        await ConversationRepository(session, self._user_id).request_stop(reply.id)
        return partial(self._replies.stop, reply.id)

    async def read_written(self, session: AsyncSession, reply_ids: Collection[UUID]) -> Mapping[UUID, Written]:
        """Returns nothing: the rows have the text."""
        return {}

    def _start(self, turn: Turn, load_prompt: PromptLoader) -> None:
        self._replies.start(ReplyRequest(self._user_id, MessageRead.model_validate(turn.reply), load_prompt))

    def _prompt(self, before: Sequence[HistoryMessage], turn: Turn) -> Prompt:
        before, summary = since_summary(self._settings.history_max_tokens, before, turn.summary)
        history = fit_messages(self._settings.history_max_tokens - estimate_tokens(summary), before)
        messages = begin_with(summary, [*history, UserMessage(turn.message.content)])
        effort = turn.reasoning_effort
        return Prompt(messages, self._settings.ai_system_prompt, turn.model, reasoning_effort=effort)

    def _loader(self, turn: Turn, prompt: Prompt) -> PromptLoader:
        """Returns a function that loads the prompt: at once, or after the previous reply has ended, to include it."""

        async def load() -> Prompt:
            before = turn.branch.newest
            if not before or before[0].status is not MessageStatus.pending:
                return prompt
            return self._prompt(await self._wait_for(before[0].id), turn)

        return load

    async def _wait_for(self, reply_id: UUID) -> Sequence[HistoryMessage]:
        """Waits until a reply has ended, and returns it and the messages before it, newest first."""
        async with self._database.read() as session:
            reply = await ConversationRepository(session, self._user_id).get_reply(reply_id)
        await self._reply_stream.ended(to_reply(reply))
        async with self._database.read() as session:
            reach = Reach.of_tokens(self._settings.history_max_tokens)
            return await ConversationRepository(session, self._user_id).up_from(reply_id, reach)
