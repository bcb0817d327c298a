"""Reads messages page by page: as columns instead of ORM objects and by statements built once, which is faster."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import NotFound
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Rating, Role
from app.repositories.base import Page


@dataclass(frozen=True, slots=True)
class MessageRow:
    id: UUID
    conversation_id: UUID
    role: Role
    content: str
    status: MessageStatus
    created_at: datetime
    code: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: Decimal | None
    rating: Rating | None
    comment: str | None

    @property
    def usage(self) -> "MessageRow | None":
        """Returns the row itself, from which `UsageRead` is made; None if no model was asked."""
        return None if self.model is None else self

    @property
    def feedback(self) -> "MessageRow | None":
        """Returns the row itself, from which `FeedbackRead` is made; None if it was not rated."""
        return None if self.rating is None else self


class MessageRepository:
    """Reads the messages of one user's conversations."""

    def __init__(self, connection: AsyncConnection, user_id: UUID) -> None:
        self._connection = connection
        self._user_id = user_id

    async def list(self, conversation_id: UUID, limit: int, cursor: UUID | None) -> Page[MessageRow]:
        """Returns a page, oldest first; the first page is the newest, the cursor leads to older. Raises NotFound."""
        more = {"limit": limit + 1} if cursor is None else {"limit": limit + 1, "cursor": cursor}
        found = await self._execute(_NEWEST if cursor is None else _OLDER, conversation_id, **more)
        if not found and not await self._execute(_CONVERSATION, conversation_id):
            raise NotFound("Conversation", conversation_id)
        items = [MessageRow(*row) for row in reversed(found[:limit])]
        return Page(items, items[0].id if len(found) > limit else None)

    async def _execute(self, query: Select[*tuple[Any, ...]], id: UUID, **more: Any) -> Sequence[Any]:
        return (await self._connection.execute(query, {"id": id, "user_id": self._user_id, **more})).all()


_CONVERSATION = select(Conversation.id).where(
    Conversation.id == bindparam("id"), Conversation.user_id == bindparam("user_id")
)
"""Selects the conversation through which messages are reached, so that other users' are invisible."""


def _page(*older: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    columns = Message.__table__.c
    return (
        select(*(columns[name] for name in MessageRow.__slots__))
        .where(Message.conversation_id == _CONVERSATION.scalar_subquery(), *older)
        .order_by(Message.position.desc())
        .limit(bindparam("limit", type_=Integer))
    )


def _position() -> ColumnElement[int]:
    of_it = (Message.conversation_id == bindparam("id"), Message.id == bindparam("cursor"))
    return select(Message.position).where(*of_it).scalar_subquery()


_NEWEST, _OLDER = _page(), _page(Message.position < _position())
