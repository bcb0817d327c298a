from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, and_, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.core.errors import NotFound
from app.models.base import now
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Role
from app.repositories.base import OwnedRepository, lock_user
from app.repositories.reply import Outcome


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    position: int
    role: Role
    content: str
    id: UUID
    status: MessageStatus


class ConversationRepository(OwnedRepository[Conversation]):
    """Reads and writes one user's conversations and, only through them, their messages."""

    model = Conversation

    async def append(self, conversation: Conversation, last_position: int, *messages: Message) -> None:
        for position, message in enumerate(messages, start=last_position + 1):
            message.conversation_id, message.position = conversation.id, position
        conversation.updated_at = now()
        self._session.add_all(messages)
        await self._session.flush()

    async def newest(
        self, conversation_id: UUID, limit: int, characters: int, before: UUID | None = None
    ) -> Sequence[HistoryMessage]:
        """Returns messages newest first, those before `before` if given, until they have over `characters` in all."""
        rows = (
            select(Message.position, Message.role, Message.content, Message.id, Message.status)
            .where(Message.conversation_id == self._mine(conversation_id))
            .order_by(Message.position.desc())
            .limit(limit)
        )
        if before is not None:
            rows = rows.where(Message.position < _position(conversation_id, before))
        last = rows.subquery()
        length, newest_first = func.length(last.c.content), last.c.position.desc()
        later = (func.sum(length).over(order_by=newest_first) - length).label("later")
        measured = select(last, later).subquery()
        within = select(measured).where(measured.c.later <= characters).order_by(measured.c.position.desc())
        return [HistoryMessage(*row) for *row, _later in await self._session.execute(within)]

    async def find_reply(self, id: UUID) -> Message | None:
        return await self._session.scalar(select(Message).where(self._is_reply(id)))

    async def get_reply(self, id: UUID) -> Message:
        """Returns a reply. Raises NotFound."""
        reply = await self.find_reply(id)
        if reply is None:
            raise NotFound("Reply", id)
        return reply

    async def exchange(self, reply_id: UUID) -> tuple[Message, Message]:
        """Returns a user's message and the reply to it. Raises NotFound."""
        question = aliased(Message)
        both = (
            select(question, Message)
            .join(
                question,
                and_(question.conversation_id == Message.conversation_id, question.position == Message.position - 1),
            )
            .where(self._is_reply(reply_id))
        )
        found = (await self._session.execute(both)).one_or_none()
        if found is None:
            raise NotFound("Reply", reply_id)
        return found[0], found[1]

    async def update_reply(self, id: UUID, *where: ColumnElement[bool], **values: Any) -> Message | None:
        """Updates a reply and returns it; None when there is none that meets all conditions."""
        changed = update(Message).where(self._is_reply(id), *where).values(**values).returning(Message)
        return await self._session.scalar(changed)

    async def request_stop(self, reply_id: UUID) -> Message:
        """Requests that a reply stops, and returns it; one that has ended stays as it is. Raises NotFound."""
        pending = Message.status == MessageStatus.pending
        return await self.update_reply(reply_id, pending, stop_requested=True) or await self.get_reply(reply_id)

    async def finish_reply(self, reply_id: UUID, outcome: Outcome) -> Message | None:
        """Stores how a pending reply ended and returns it; None when it has ended before, or was deleted."""
        await lock_user(self._session, self._user_id)
        return await self.update_reply(reply_id, Message.status == MessageStatus.pending, **outcome.values())

    def _is_reply(self, id: UUID) -> ColumnElement[bool]:
        mine = Message.conversation_id == self._mine(Message.conversation_id)
        return and_(Message.id == id, Message.role == Role.assistant, mine)

    def _mine(self, id: UUID | InstrumentedAttribute[UUID]) -> ScalarSelect[UUID]:
        """Selects this one conversation if it is the user's; a list of them all would grow with the user's history."""
        return self._rows().where(Conversation.id == id).with_only_columns(Conversation.id).scalar_subquery()


def _position(conversation_id: UUID, message_id: UUID) -> ScalarSelect[int]:
    position = select(Message.position).where(Message.conversation_id == conversation_id, Message.id == message_id)
    return position.scalar_subquery()
