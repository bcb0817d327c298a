"""Reads and writes replies of all users: those that a process generates, and those that none does any more."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import now
from app.models.conversation import Conversation
from app.models.message import PENDING, Message, MessageStatus
from app.models.user import User
from app.repositories.process import of_dead_process
from app.repositories.usage import UsageRecord


@dataclass(frozen=True, slots=True)
class ReplyText:
    """Holds what a model has said of a reply, and what it has shown of its reasoning before that."""

    content: str
    reasoning: str = ""

    @property
    def stored_parts(self) -> list[dict[str, Any]] | None:
        """Returns what is stored besides the text."""
        return [{"type": "reasoning", "text": self.reasoning}] if self.reasoning else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Describes how a reply ended, and what it cost."""

    status: MessageStatus
    content: str
    code: str | None = None
    detail: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None
    stored_parts: list[dict[str, Any]] | None = None

    @property
    def used(self) -> UsageRecord | None:
        """Returns what the model used; None when no model was asked."""
        if self.model is None:
            return None
        return UsageRecord(self.model, self.input_tokens or 0, self.output_tokens or 0, self.cost)

    def values(self) -> dict[str, Any]:
        return asdict(self)


BEGUN_WITHIN = timedelta(seconds=5)
"""Protects a new reply from being taken for abandoned, until its process has surely begun to generate it."""


@dataclass(frozen=True, slots=True)
class ReplyState:
    """Holds what changes when there is news of a reply."""

    status: MessageStatus
    length: int
    """Counts the characters that carry its reasoning and its text."""


_REASONING = Message.stored_parts[0]["text"].as_string()
_LENGTH = func.length(Message.content) + func.coalesce(
    func.length(_REASONING) + case((Message.content == "", 1), else_=2), 0
)


# It is built once, since building it costs as much as executing it.
_SETTLE = update(Message).where(Message.id == bindparam("of"), PENDING).returning(Message)


class ReplyRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def store_texts(self, texts: Mapping[UUID, ReplyText]) -> None:
        """Stores the texts of pending replies, in one round trip for those without and one for those with reasoning.

        A reply that has ended keeps its final text.

        It skips replies that others have locked, as deletion locks several in another order, so that none deadlock.
        """
        free = select(Message.id).where(Message.id == bindparam("of"), PENDING).with_for_update(skip_locked=True)
        stored = (
            update(Message.__table__)  # pyright: ignore[reportArgumentType]
            .where(Message.id == free.scalar_subquery())
            .values(content=bindparam("text"))
        )
        rows = [{"of": id, "text": texts[id].content, "shown": texts[id].stored_parts} for id in sorted(texts)]
        connection = await self._session.connection()
        if plain := [row for row in rows if row["shown"] is None]:
            await connection.execute(stored, plain)
        if reasoned := [row for row in rows if row["shown"] is not None]:
            await connection.execute(stored.values(parts=bindparam("shown")), reasoned)

    async def states(self, ids: Collection[UUID]) -> Mapping[UUID, ReplyState]:
        """Returns the states of those replies that exist."""
        columns = (Message.id, Message.status, _LENGTH)
        found = await self._session.execute(select(*columns).where(Message.id.in_(ids)))
        return {row[0]: ReplyState(row[1], row[2]) for row in found}

    async def list_wanted(self, process_id: UUID) -> Sequence[UUID]:
        """Returns the pending replies of a process that nobody asked to stop, and whose users are active."""
        wanted = (
            select(Message.id)
            .join(Conversation, Conversation.id == Message.conversation_id)
            .join(User, User.id == Conversation.user_id)
            .where(PENDING, Message.process_id == process_id, ~Message.stop_requested, User.is_active)
        )
        return (await self._session.scalars(wanted)).all()

    async def abandoned(self, process_id: UUID) -> Sequence[UUID]:
        """Returns the pending replies of dead processes, and of the calling process unless they have just begun."""
        return (await self._session.scalars(select(Message.id).where(self._abandoned(process_id)))).all()

    async def texts(self, ids: Collection[UUID]) -> dict[UUID, ReplyText]:
        """Returns the texts of models' replies as far as they are stored."""
        found = select(Message.id, Message.content, _REASONING).where(Message.id.in_(ids))
        return {row[0]: ReplyText(row[1], row[2] or "") for row in await self._session.execute(found)}

    async def interrupt(self, process_id: UUID, texts: Mapping[UUID, ReplyText]) -> Sequence[Message]:
        """Ends and returns those that are still abandoned, with these texts. It skips those that others have locked."""
        found = select(Message).where(Message.id.in_(texts), self._abandoned(process_id)).order_by(Message.id)
        replies = (await self._session.scalars(found.with_for_update(skip_locked=True))).all()
        for reply in replies:
            reply.status = MessageStatus.stopped if reply.stop_requested else MessageStatus.interrupted
            reply.content, reply.stored_parts = texts[reply.id].content, texts[reply.id].stored_parts
        await self._session.flush()
        return replies

    async def settle(self, id: UUID, values: Mapping[str, Any]) -> Message | None:
        """Stores the end of the reply of an agent, and returns it; None if it has ended before or was deleted."""
        return await self._session.scalar(_SETTLE.values(**values), {"of": id})

    def _abandoned(self, process_id: UUID) -> ColumnElement[bool]:
        own = (Message.process_id == process_id) & (Message.created_at < now() - BEGUN_WITHIN)
        dead = of_dead_process(Message.process_id, process_id)
        return and_(PENDING, Message.execution_id.is_(None), or_(Message.process_id.is_(None), own, dead))
